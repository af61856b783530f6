// Modules of PTX, as a driver takes them; the interpreter is Python's: tests/support/cuda/ptx.
#include "gpu.h"

typedef int (*Load)(const char* text);
typedef long (*ParameterBytes)(int module, const char* kernel);
typedef void (*Run)(int module, const char* kernel, const unsigned* grid_and_block, const char* parameters);
static Load load;
static ParameterBytes parameter_bytes;
static Run run;

extern "C" void standin_ptx(Load load_, ParameterBytes parameter_bytes_, Run run_) {
    load = load_, parameter_bytes = parameter_bytes_, run = run_;
}

// A call into Python may wait for its lock, whose holder may wait for the gate.
template <class F> static auto without_gate(F call) {
    gate.unlock();
    struct Lock { ~Lock() { gate.lock(); } } again;
    return call();
}

int load_ptx(const char* text) {
    return load ? without_gate([=] { return load(text); }) : -1;
}

long ptx_parameter_bytes(int module, const char* kernel) {
    return without_gate([=] { return parameter_bytes(module, kernel); });
}

void run_ptx(const Launch& launch) {
    const unsigned size[] = {launch.grid[0], launch.grid[1], launch.block[0], launch.block[1]};
    without_gate([&] {
        run(launch.kernel->ptx_module, launch.kernel->name.c_str(), size, launch.parameters.data());
    });
}
