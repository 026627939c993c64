// Gives memory back that only the start needed.
#pragma once

namespace remora {

// Drops the mappings of code and constants (clean pages of the binary: what is used again comes
// back from the page cache) and the free part of the heap. For a moment without work, once the
// start is over: command-line parsing and static initialisation are most of what a sidecar touches.
void release_startup_memory();

}  // namespace remora
