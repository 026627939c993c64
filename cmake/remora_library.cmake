# remora_library(name [DEPS target …]): this folder's *.cc (without main.cc) as one library with
# the product's warnings. remora_test(name DEPS …): this folder's *.cc as one GoogleTest program.
# Sources are globbed: a new file in a folder is built without an edit here.
add_library(remora_options INTERFACE)
target_compile_options(
  remora_options
  INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-qual
            -Wunused -Woverloaded-virtual -Wconversion -Wno-sign-conversion -Wimplicit-fallthrough
            -Werror
            # g++ 12 sees overlaps in std::string that can't happen (GCC bug 105651), and unset
            # members in a std::optional that has been tested (GCC bug 80635).
            $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
            $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
target_include_directories(remora_options INTERFACE ${PROJECT_SOURCE_DIR})

function(remora_library name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.cc)
  list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
  if(NOT sources)
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE remora_options ${ARG_DEPS})
    return()
  endif()
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC remora_options ${ARG_DEPS})
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  if(NOT name IN_LIST remora_fast_libraries)
    remora_optimize_for_size(${name})
  endif()
endfunction()

function(remora_test name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.cc)
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE remora_options ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name} --gtest_shuffle)
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 300)
endfunction()

# remora_fuzzer(name SOURCE DEPS …): a libFuzzer target (preset fuzz), and in every other preset a
# ctest entry that replays tests/fuzz/corpus/<name> through the same LLVMFuzzerTestOneInput.
function(remora_fuzzer name)
  cmake_parse_arguments(ARG "" "SOURCE" "DEPS" ${ARGN})
  if(REMORA_FUZZERS)
    add_executable(fuzz_${name} ${ARG_SOURCE})
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(fuzz_${name} ${ARG_SOURCE} ${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.cc)
    add_test(NAME fuzz_replay_${name}
             COMMAND fuzz_${name} ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
    set_tests_properties(fuzz_replay_${name} PROPERTIES LABELS fuzz TIMEOUT 120)
  endif()
  target_link_libraries(fuzz_${name} PRIVATE remora_options ${ARG_DEPS})
endfunction()
