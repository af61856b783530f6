// What the tests ask of the stand-in, and where it writes down what was done.
#pragma once
#include <cstddef>
#include <string>

#include <cuda.h>

CUresult count_call(const char* function);  // the fault that a test wants of it, mostly none
void note_launch(const std::string& lines);  // kernels, each with the end of its line
void forget_everything();  // memory, streams, events, and what broke the context
size_t contexts_of_this_thread();
size_t modules_loaded();
extern size_t pageable_copies;  // asynchronous copies from or to memory that is not page-locked
