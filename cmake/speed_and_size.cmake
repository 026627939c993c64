# In a release, what carries requests is compiled for speed (-O3, CMake's own choice for a release)
# and everything else for size. Functions that both use, such as those of std::string, exist in both
# forms, and the linker keeps the first that it sees: so the objects of the former are linked first.
set(remora_fast_libraries remora_base remora_net remora_http remora_proxy remora_filters)
set(remora_small $<$<CONFIG:Release>:-Os>)

function(remora_optimize_for_size)
  foreach(target ${ARGN})
    target_compile_options(${target} PRIVATE ${remora_small})
  endforeach()
endfunction()

function(remora_link_fast_objects_first program)
  foreach(library ${remora_fast_libraries})
    target_sources(${program} PRIVATE $<TARGET_OBJECTS:${library}>)
  endforeach()
endfunction()
