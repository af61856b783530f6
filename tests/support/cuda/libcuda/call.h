// How each of the driver's functions begins.
#pragma once
#include "gpu.h"
#include "tests.h"

enum Need { NOTHING, DRIVER, CONTEXT, WHOLE_CONTEXT };

// Whether a call may go on. In WHOLE_CONTEXT work can be done: nothing has broken it.
CUresult may(const char* name, Need need);

#define BEGIN(need)                                              \
    const std::lock_guard<std::recursive_mutex> hold(gate);      \
    if (const CUresult fault = may(__func__, need)) return fault

#define FORBIDDEN_IN_CAPTURE \
    if (const CUresult fault = forbidden_in_capture()) return fault
#define WAITS_FOR_CAPTURES \
    if (const CUresult fault = waits_for_captures()) return fault
