// Graphs: work that a stream captures instead of enqueuing it, and launches as often as is wanted.
//
// A capture begins in one stream, and another one joins it where it waits for an event that was recorded
// in the capture; its work has to be joined again before the end. A launch is one job of its stream, in
// which the nodes run one after another, in an order that only their dependencies bind; work of other
// streams may come between.
#include "call.h"

#include <algorithm>
#include <thread>

struct Capture {
    CUstream_st* origin;
    CUstreamCaptureMode mode;
    std::thread::id thread;
    CUresult fault = CUDA_SUCCESS;  // what broke it
    std::vector<Node> nodes = {};
};
using Recorded = std::shared_ptr<const std::vector<Node>>;
struct CUgraph_st { Recorded nodes; };
// A launch waits for the one before it, in whichever stream that was.
struct Counts { uint64_t launched = 0, finished = 0; };
struct CUgraphExec_st { Recorded nodes; std::string kernels; std::shared_ptr<Counts> counts; };
static std::set<std::shared_ptr<Capture>> captures;  // under way
static std::map<CUgraph, std::unique_ptr<CUgraph_st>> graphs;
static std::map<CUgraphExec, std::unique_ptr<CUgraphExec_st>> executables;

size_t graphs_there() { return graphs.size() + executables.size(); }
void forget_graphs() {
    graphs.clear();
    executables.clear();
    captures.clear();
}

CUresult break_capture(Capture& capture, CUresult fault) {
    capture.fault = fault;
    return fault;
}

CUresult forbidden_in_capture() {
    CUresult outcome = CUDA_SUCCESS;
    for (const auto& capture : captures) {
        const bool mine = capture->thread == std::this_thread::get_id();
        const bool bound = capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
                           (capture->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && mine);
        if (bound) outcome = break_capture(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    return outcome;
}

CUresult waits_for_captures() {
    CUresult outcome = CUDA_SUCCESS;
    for (const auto& capture : captures)
        if (!(capture->origin->flags & CU_STREAM_NON_BLOCKING))
            outcome = break_capture(*capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    return outcome;
}

CUresult add_node(CUstream_st* stream, std::function<void()> run, const std::string& kernel) {
    Capture& capture = *stream->capture;
    if (capture.fault) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    capture.nodes.push_back({std::move(run), stream->last, kernel});
    stream->last = {capture.nodes.size() - 1};
    return CUDA_SUCCESS;
}

CUresult record_in_capture(CUevent_st* event, CUstream_st* stream, bool as_node) {
    if (stream->capture->fault) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!as_node) {  // no more than a place to wait for
        event->capture = stream->capture;
        event->last = stream->last;
        return CUDA_SUCCESS;
    }
    const auto kept = events.at(event);
    kept->capture = nullptr;
    return add_node(stream, [kept] { kept->happened = ++kept->recorded, kept->at = now(); }, "");
}

CUresult wait_in_capture(CUstream_st* stream, const CUevent_st& event) {
    if (!event.capture) return break_capture(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    if (!captures.count(event.capture)) return CUDA_ERROR_CAPTURED_EVENT;
    if (stream->capture && stream->capture != event.capture)
        return break_capture(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
    if (event.capture->fault) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    stream->capture = event.capture;
    stream->last.insert(event.last.begin(), event.last.end());
    return CUDA_SUCCESS;
}

// Whether all nodes come before what would be next in the stream that began.
static bool is_joined(const Capture& capture) {
    Nodes before = capture.origin->last;
    std::vector<size_t> open(before.begin(), before.end());
    while (!open.empty()) {
        const size_t node = open.back();
        open.pop_back();
        for (size_t earlier : capture.nodes[node].after)
            if (before.insert(earlier).second) open.push_back(earlier);
    }
    return before.size() == capture.nodes.size();
}

// The nodes as jobs, each after those that it waits for.
static std::vector<Job> in_order(const Recorded& nodes) {
    std::vector<Job> jobs;
    std::vector<bool> done(nodes->size());
    while (jobs.size() < nodes->size()) {
        std::vector<size_t> ready;
        for (size_t k = 0; k < nodes->size(); ++k) {
            const Nodes& after = (*nodes)[k].after;
            if (!done[k] && std::all_of(after.begin(), after.end(), [&](size_t n) { return done[n]; })) ready.push_back(k);
        }
        const size_t next = ready[pick(ready.size())];
        done[next] = true;
        jobs.push_back({nullptr, [nodes, next] { (*nodes)[next].run(); }});
    }
    return jobs;
}

extern "C" {
CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    BEGIN(WHOLE_CONTEXT);
    CUstream_st* const stream = find_stream(handle);
    if (!stream || !handle) return CUDA_ERROR_INVALID_HANDLE;  // the null stream captures nothing
    if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    stream->capture = std::make_shared<Capture>(Capture{stream, mode, std::this_thread::get_id()});
    stream->last.clear();
    captures.insert(stream->capture);
    return CUDA_SUCCESS;
}
CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
    BEGIN(CONTEXT);
    CUstream_st* const stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    *status = !stream->capture         ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->capture->fault ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                       : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
    const std::lock_guard<std::recursive_mutex> hold(gate);
    const CUresult wanted = may(__func__, CONTEXT);  // a failure of it ends the capture, too
    *graph = nullptr;
    CUstream_st* const stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    const auto capture = stream->capture;
    if (!capture) return CUDA_ERROR_ILLEGAL_STATE;
    if (capture->origin != stream) return break_capture(*capture, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != std::this_thread::get_id())
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    const bool joined = is_joined(*capture);
    captures.erase(capture);
    for (const auto& each : streams)
        if (each->capture == capture) each->capture = nullptr, each->last.clear();
    if (wanted) return wanted;
    if (capture->fault) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!joined) return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    auto made = std::make_unique<CUgraph_st>();
    made->nodes = std::make_shared<std::vector<Node>>(std::move(capture->nodes));
    *graph = made.get();
    graphs[*graph] = std::move(made);
    return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long) {
    BEGIN(WHOLE_CONTEXT);
    if (!graphs.count(graph)) return CUDA_ERROR_INVALID_VALUE;
    auto made = std::make_unique<CUgraphExec_st>();
    made->nodes = graph->nodes;
    made->counts = std::make_shared<Counts>();
    for (const Node& node : *graph->nodes)
        if (!node.kernel.empty()) made->kernels += node.kernel + "\n";
    *executable = made.get();
    executables[*executable] = std::move(made);
    return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec executable, CUstream handle) {
    BEGIN(WHOLE_CONTEXT);
    CUstream_st* const stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!executables.count(executable)) return CUDA_ERROR_INVALID_VALUE;
    if (stream->capture) return break_capture(*stream->capture, CUDA_ERROR_NOT_SUPPORTED);
    note_launch(executable->kernels);
    const Recorded nodes = executable->nodes;
    const auto counts = executable->counts;
    const uint64_t before = counts->launched++;
    stream->jobs.push_back({[=] { return counts->finished == before; },
                            [=] {  // those that wait behind it stay there
                                std::vector<Job> jobs = in_order(nodes);
                                jobs.push_back({nullptr, [=] { ++counts->finished; }});
                                stream->jobs.insert(stream->jobs.begin(), jobs.begin(), jobs.end());
                            }});
    return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph graph) {
    BEGIN(NOTHING);
    return graphs.erase(graph) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuGraphExecDestroy(CUgraphExec executable) {
    BEGIN(NOTHING);
    return executables.erase(executable) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
}
