/* The queue of work, captures and graphs: stream.h. All streams share one order.
 *
 * source: CUDA Runtime API 13.0, stream and graph management; CUDA C++ Programming Guide, CUDA
 * graphs, creating a graph using stream capture */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ptx/stream.h"

struct work {
    void (*run)(const void *state);
    void *state;
    size_t bytes;
};

struct list {
    struct work *at;
    size_t n, room;
};

static struct {
    struct list asked, captured;
    cudaStream_t capturing; /* NULL: none */
    bool broken;            /* the capture met what cannot be captured */
} queue;

static void append(struct list *l, const struct work *w)
{
    void *state = malloc(w->bytes);

    memcpy(state, w->state, w->bytes);
    if (l->n == l->room) {
        l->room = 2 * l->room + 64;
        l->at = realloc(l->at, l->room * sizeof *l->at);
    }
    l->at[l->n++] = (struct work){w->run, state, w->bytes};
}

static void empty(struct list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->at[i].state);
    free(l->at);
    *l = (struct list){0};
}

void stream_ask(cudaStream_t s, void (*run)(const void *state), const void *state, size_t bytes)
{
    struct work w = {run, (void *)(uintptr_t)state, bytes};

    append(queue.capturing && s == queue.capturing ? &queue.captured : &queue.asked, &w);
}

void stream_finish(void)
{
    struct list now = queue.asked;

    queue.asked = (struct list){0};
    for (size_t i = 0; i < now.n; i++)
        now.at[i].run(now.at[i].state);
    empty(&now);
}

bool stream_forbids(void)
{
    queue.broken = queue.broken || queue.capturing;
    return queue.capturing != NULL;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    *out = malloc(1);
    return cudart_said(flags > cudaStreamNonBlocking ? cudaErrorInvalidValue : cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    stream_finish();
    free(s);
    return cudart_said(cudaSuccess);
}

cudaError_t cudaStreamQuery(cudaStream_t s)
{
    (void)s;
    if (stream_forbids())
        return cudart_said(cudaErrorStreamCaptureUnsupported);
    stream_finish();
    return cudart_said(cudaSuccess);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode)
{
    if (queue.capturing || !s || mode != cudaStreamCaptureModeThreadLocal)
        return cudart_said(cudaErrorIllegalState);
    queue.capturing = s;
    queue.broken = false;
    return cudart_said(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out)
{
    struct list *graph = calloc(1, sizeof *graph);

    *graph = queue.captured;
    queue.captured = (struct list){0};
    *out = (cudaGraph_t)(void *)graph;
    if (s == queue.capturing && !queue.broken) {
        queue.capturing = NULL;
        return cudart_said(cudaSuccess);
    }
    queue.capturing = NULL;
    cudaGraphDestroy(*out);
    *out = NULL;
    return cudart_said(cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph,
                                 unsigned long long flags)
{
    const struct list *from = (const struct list *)(void *)graph;
    struct list *to = calloc(1, sizeof *to);

    for (size_t i = 0; i < from->n; i++)
        append(to, &from->at[i]);
    *out = (cudaGraphExec_t)(void *)to;
    return cudart_said(flags ? cudaErrorInvalidValue : cudaSuccess);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t graph, cudaStream_t s)
{
    return cudart_said(graph && s ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t s)
{
    const struct list *l = (const struct list *)(void *)graph;

    for (size_t i = 0; i < l->n; i++)
        stream_ask(s, l->at[i].run, l->at[i].state, l->at[i].bytes);
    return cudart_said(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    empty((struct list *)(void *)graph);
    free((void *)graph);
    return cudart_said(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    return cudaGraphDestroy((cudaGraph_t)(void *)graph);
}

/* --- events: there is no clock, a millisecond lies between any two ------------------------ */

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    *out = malloc(1);
    return cudart_said(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    free(e);
    return cudart_said(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    (void)e, (void)s;
    return cudart_said(cudaSuccess);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t stop)
{
    (void)start, (void)stop;
    *ms = 1.0f;
    return cudart_said(stream_forbids() ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
}
