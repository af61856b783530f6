#include "gpu.h"

#include <algorithm>
#include <random>
#include <thread>

#include "tests.h"

std::vector<std::unique_ptr<CUstream_st>> streams, orphans;
std::map<CUevent, std::shared_ptr<CUevent_st>> events;
static CUstream_st null_stream;
static uint64_t clock_ms;
static std::mt19937 shuffle(1);

uint64_t now() { return clock_ms; }

CUstream_st* find_stream(CUstream handle) {
    if (handle == nullptr) return &null_stream;
    for (const auto& stream : streams)
        if (stream.get() == handle) return handle;
    return nullptr;
}

CUresult enqueue(CUstream_st* stream, std::function<void()> run, const std::string& kernel) {
    if (stream->capture) return add_node(stream, std::move(run), kernel);
    if (!kernel.empty()) note_launch(kernel + "\n");
    stream->jobs.push_back({nullptr, std::move(run)});
    return CUDA_SUCCESS;
}

size_t pick(size_t count) {
    if (settings.stream_order == 0) return 0;
    return settings.stream_order == 1 ? count - 1 : shuffle() % count;
}

static std::vector<CUstream_st*> all_streams() {
    std::vector<CUstream_st*> all = {&null_stream};
    for (const auto* list : {&streams, &orphans})
        for (const auto& stream : *list) all.push_back(stream.get());
    return all;
}

size_t jobs_waiting() {
    size_t count = 0;
    for (const CUstream_st* stream : all_streams()) count += stream->jobs.size();
    return count;
}

void drop_work() {
    for (CUstream_st* stream : all_streams()) stream->jobs.clear();
    orphans.clear();
}

static void run_one(CUstream_st* stream) {
    ++clock_ms;
    const Job job = std::move(stream->jobs.front());
    stream->jobs.pop_front();
    stream->busy = true;
    job.run();
    stream->busy = false;
}

CUresult run_until(const std::function<bool()>& done) {
    while (!broken && !done()) {
        std::vector<CUstream_st*> ready;
        bool busy = false;
        for (CUstream_st* stream : all_streams()) {
            busy |= stream->busy;
            const bool next = !stream->busy && !stream->jobs.empty();
            if (next && (!stream->jobs.front().ready || stream->jobs.front().ready())) ready.push_back(stream);
        }
        if (ready.empty() && busy) {  // another thread runs what this one waits for
            gate.unlock();
            std::this_thread::yield();
            gate.lock();
        } else if (ready.empty()) {
            return break_context(CUDA_ERROR_LAUNCH_TIMEOUT, "the streams wait for each other for ever");
        } else {
            run_one(ready[pick(ready.size())]);
        }
    }
    return broken;
}

CUresult run_all() {
    const CUresult outcome = run_until([] { return jobs_waiting() == 0; });
    orphans.clear();
    return outcome;
}
