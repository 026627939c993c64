# Everything we link comes from Debian packages (./dev names them all) and is linked from its
# static archive where Debian ships one, so that one binary runs anywhere and starts fast.
find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(GTest REQUIRED)

function(remora_archive name header)
  find_library(${name}_ARCHIVE NAMES lib${name}.a REQUIRED)
  add_library(archive::${name} UNKNOWN IMPORTED)
  set_target_properties(archive::${name} PROPERTIES IMPORTED_LOCATION ${${name}_ARCHIVE})
endfunction()

remora_archive(event_core event2/event.h)
remora_archive(event_extra event2/dns.h)
target_link_libraries(archive::event_extra INTERFACE archive::event_core)
remora_archive(nghttp2 nghttp2/nghttp2.h)
remora_archive(protobuf google/protobuf/message.h)
remora_archive(zstd zstd.h)
remora_archive(yaml-cpp yaml-cpp/yaml.h)
remora_archive(sqlite3 sqlite3.h)
remora_archive(ssl openssl/ssl.h)
remora_archive(crypto openssl/crypto.h)
target_link_libraries(archive::protobuf INTERFACE Threads::Threads)
target_link_libraries(archive::crypto INTERFACE ${CMAKE_DL_LIBS} Threads::Threads)
target_link_libraries(archive::ssl INTERFACE archive::crypto)
target_link_libraries(archive::sqlite3 INTERFACE m ${CMAKE_DL_LIBS} Threads::Threads)

# {fmt}: Debian 12 has its shared library and its headers. As headers only, each file that formats would
# compile the whole of it: twice the time of a build.
add_library(fmt_archive STATIC ${PROJECT_SOURCE_DIR}/cmake/fmt.cc)

# llhttp: Debian 12 ships its C source in node-llhttp, not a library.
add_library(llhttp STATIC /usr/share/llhttp/api.c /usr/share/llhttp/http.c
                          /usr/share/llhttp/llhttp.c)
target_include_directories(llhttp SYSTEM PUBLIC /usr/share/include/llhttp)
# Without this llhttp takes CR without LF inside a chunked body.
target_compile_definitions(llhttp PUBLIC LLHTTP_STRICT_MODE=1)
