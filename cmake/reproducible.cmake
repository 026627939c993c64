# The same sources give the same binary, wherever they lie and whether or not ccache compiles them.
#
# Paths get into a binary through __FILE__, which protobuf's generated code uses. ccache spells them
# relative to the build directory, the compiler alone as CMake does, so both forms are mapped to the
# path from the root of the checkout. Debuggers and gcov want the true paths, so release only.
file(RELATIVE_PATH source_from_build ${PROJECT_BINARY_DIR} ${PROJECT_SOURCE_DIR})
string(REGEX REPLACE "/$" "" source_from_build "${source_from_build}")
foreach(prefix ${PROJECT_SOURCE_DIR} ${source_from_build} ${PROJECT_BINARY_DIR})
  add_compile_options($<$<CONFIG:Release>:-ffile-prefix-map=${prefix}/=>)
endforeach()

# remora_link_map(target): TARGET.map beside the program says what was linked in; images/ makes the
# bill of materials from it.
function(remora_link_map target)
  target_link_options(${target} PRIVATE LINKER:-Map=$<TARGET_FILE:${target}>.map)
endfunction()
