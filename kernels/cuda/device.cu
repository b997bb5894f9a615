/* One GPU through the CUDA runtime as a backend of device.h. Compiled by nvcc only. cudart is
 * linked statically: without a driver every call fails with a text, and nothing else happens.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/dev.h"

namespace
{

const double TIMEOUT_S = 120; /* of a wait, unless the options say otherwise */

/* Uploads up to this size go through pinned memory and are not waited for. */
enum { STAGED_BYTES = 1 << 20, STAGE_BYTES = 4 << 20, STAGE_ALIGN = 256 };

struct cuda_device {
    int index, capability;
    cudaStream_t stream;
    cudaEvent_t start, stop;
    cudaEvent_t marks[DEVICE_MARKS_MAX]; /* made as they are needed, and kept */
    uint32_t n_marks, marks_made;
    cudaGraphExec_t graph; /* what was recorded last */
    bool recording;
    char *stage; /* pinned; in use up to stage_used by copies that may be under way */
    uint64_t stage_used;
    void *gemm; /* of gemm.cu */
    double timeout_s;
    bool hung; /* every further call would wait for the kernel that hangs */
    struct device_text error;
};

/* Also makes it the current device of this thread: several may be open. */
struct cuda_device *of(void *self)
{
    struct cuda_device *d = static_cast<struct cuda_device *>(self);

    (void)cudaSetDevice(d->index);
    return d;
}

enum device_status status_of(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return DEVICE_OK;
    case cudaErrorMemoryAllocation: return DEVICE_OUT_OF_MEMORY;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorInsufficientDriver: return DEVICE_ABSENT;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
    case cudaErrorNotSupported: return DEVICE_UNSUPPORTED;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration: return DEVICE_BAD_ARGUMENT;
    default: return DEVICE_FAULT;
    }
}

/* An error is also taken off the runtime's record, so that the next call does not show it. */
enum device_status told(struct device_text *text, cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return DEVICE_OK;
    snprintf(text->text, sizeof text->text, "%s: %s: %s", what, cudaGetErrorName(e),
             cudaGetErrorString(e));
    (void)cudaGetLastError();
    return status_of(e);
}

enum device_status made(struct cuda_device *d, struct device_text *why)
{
    int major = 0, minor = 0;
    enum device_status s = told(why, cudaSetDevice(d->index), "cudaSetDevice");

    if (s == DEVICE_OK)
        s = told(why,
                 cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, d->index),
                 "cudaDeviceGetAttribute");
    if (s == DEVICE_OK)
        s = told(why,
                 cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, d->index),
                 "cudaDeviceGetAttribute");
    if (s == DEVICE_OK)
        s = told(why, cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking),
                 "cudaStreamCreate");
    if (s == DEVICE_OK)
        s = told(why, cudaEventCreate(&d->start), "cudaEventCreate");
    if (s == DEVICE_OK)
        s = told(why, cudaEventCreate(&d->stop), "cudaEventCreate");
    d->capability = 10 * major + minor;
    return s;
}

void cuda_close(void *self)
{
    struct cuda_device *d = of(self);

    if (d->hung) /* the driver stops it and frees everything when the process ends */
        return;
    cuda_gemm_close(d->gemm);
    if (d->graph)
        cudaGraphExecDestroy(d->graph);
    if (d->stage)
        cudaFreeHost(d->stage);
    for (uint32_t i = 0; i < d->marks_made; i++)
        cudaEventDestroy(d->marks[i]);
    if (d->start)
        cudaEventDestroy(d->start);
    if (d->stop)
        cudaEventDestroy(d->stop);
    if (d->stream)
        cudaStreamDestroy(d->stream);
    free(d);
}

/* Decimal digits only. */
bool index_of(const char *name, int *out)
{
    int n = 0;

    if (!*name || strlen(name) > 4)
        return false;
    for (; *name; name++) {
        if (*name < '0' || *name > '9')
            return false;
        n = 10 * n + (*name - '0');
    }
    *out = n;
    return true;
}

enum device_status cuda_open(const char *name, const struct device_options *o, void **self,
                             struct device_text *why)
{
    int index = 0;
    enum device_status s;
    struct cuda_device *d;

    if (!index_of(name, &index)) {
        snprintf(why->text, sizeof why->text, "no device is called 'cuda:%.32s': use cuda:0",
                 name);
        return DEVICE_BAD_ARGUMENT;
    }
    if (!cuda_count(why))
        return DEVICE_ABSENT;
    d = static_cast<struct cuda_device *>(calloc(1, sizeof *d));
    if (!d) {
        snprintf(why->text, sizeof why->text, "out of host memory");
        return DEVICE_OUT_OF_MEMORY;
    }
    d->index = index;
    d->timeout_s = o->timeout_s > 0 ? o->timeout_s : TIMEOUT_S;
    s = made(d, why);
    if (s == DEVICE_OK)
        *self = d;
    else
        cuda_close(d);
    return s;
}

const char *cuda_error(const void *self)
{
    return static_cast<const struct cuda_device *>(self)->error.text;
}

enum device_status cuda_info(void *self, struct device_info *out)
{
    struct cuda_device *d = of(self);
    struct cudaDeviceProp p;
    size_t free_bytes = 0, total_bytes = 0;
    enum device_status s =
        told(&d->error, cudaGetDeviceProperties(&p, d->index), "cudaGetDeviceProperties");

    if (s == DEVICE_OK)
        s = told(&d->error, cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
    if (s != DEVICE_OK)
        return s;
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%.63s", p.name);
    out->major = p.major;
    out->minor = p.minor;
    out->total_bytes = total_bytes;
    out->free_bytes = free_bytes;
    out->l2_bytes = (uint64_t)p.l2CacheSize;
    out->multiprocessors = (uint32_t)p.multiProcessorCount;
    (void)cudaDriverGetVersion(&out->driver);
    (void)cudaRuntimeGetVersion(&out->runtime);
    return DEVICE_OK;
}

enum device_status cuda_alloc(void *self, uint64_t bytes, enum tag, void **out)
{
    return told(&of(self)->error, cudaMalloc(out, bytes), "cudaMalloc");
}

double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Waits by asking, so that a kernel that does not end is given up after a while. Nothing runs
 * while it is recorded, so that there is nothing to wait for. */
enum device_status settled(struct cuda_device *d, const char *what)
{
    const struct timespec pause = {0, 20000};
    double start = now_s();
    cudaError_t e = cudaSuccess;

    if (d->recording)
        return DEVICE_OK;
    d->stage_used = 0;
    while (!d->hung && (e = cudaStreamQuery(d->stream)) == cudaErrorNotReady) {
        (void)cudaGetLastError();
        d->hung = now_s() - start > d->timeout_s;
        nanosleep(&pause, NULL);
    }
    if (!d->hung)
        return told(&d->error, e, what);
    snprintf(d->error.text, sizeof d->error.text, "no answer for %.0f s: a kernel hangs",
             d->timeout_s);
    return DEVICE_FAULT;
}

/* cudaFree itself waits without asking, for a kernel that hangs too. */
enum device_status cuda_free(void *self, void *p)
{
    struct cuda_device *d = of(self);
    enum device_status s = settled(d, "cudaFree");

    return s != DEVICE_OK ? s : told(&d->error, cudaFree(p), "cudaFree");
}

enum device_status cuda_fill(void *self, void *p, int byte, uint64_t bytes)
{
    struct cuda_device *d = of(self);

    return told(&d->error, cudaMemsetAsync(p, byte, bytes, d->stream), "cudaMemset");
}

enum device_status stage_made(struct cuda_device *d)
{
    return d->stage ? DEVICE_OK
                    : told(&d->error,
                           cudaMallocHost(reinterpret_cast<void **>(&d->stage), STAGE_BYTES),
                           "cudaMallocHost");
}

/* From pinned memory, which a recorded copy reads at every replay: it is free again after the
 * next wait. */
enum device_status staged(struct cuda_device *d, void *to, const void *from, uint64_t bytes)
{
    enum device_status s = stage_made(d);

    if (s == DEVICE_OK && bytes > STAGE_BYTES - d->stage_used)
        s = d->recording ? cuda_refuse(d, DEVICE_UNSUPPORTED, "too many uploads in a recording")
                         : settled(d, "cudaMemcpy");
    if (s != DEVICE_OK)
        return s;
    memcpy(d->stage + d->stage_used, from, bytes);
    s = told(
        &d->error,
        cudaMemcpyAsync(to, d->stage + d->stage_used, bytes, cudaMemcpyHostToDevice, d->stream),
        "cudaMemcpy");
    d->stage_used += (bytes + STAGE_ALIGN - 1) / STAGE_ALIGN * STAGE_ALIGN;
    return s;
}

enum device_status cuda_copy_bytes(void *self, void *to, const void *from, uint64_t bytes,
                                   bool up)
{
    struct cuda_device *d = of(self);
    enum cudaMemcpyKind kind = up ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
    enum device_status s;

    if (up && bytes <= STAGED_BYTES)
        return staged(d, to, from, bytes);
    if (d->recording)
        return cuda_refuse(d, DEVICE_UNSUPPORTED, "such a copy cannot be recorded");
    s = settled(d, "cudaMemcpy"); /* the copy itself waits without asking */
    if (s == DEVICE_OK)
        s = told(&d->error, cudaMemcpyAsync(to, from, bytes, kind, d->stream), "cudaMemcpy");

    return s != DEVICE_OK ? s : settled(d, "cudaMemcpy");
}

enum device_status cuda_sync(void *self)
{
    return settled(of(self), "cudaStreamQuery");
}

enum device_status cuda_timer(void *self, double *seconds)
{
    struct cuda_device *d = of(self);
    float ms = 0;
    enum device_status s;

    if (!seconds)
        return told(&d->error, cudaEventRecord(d->start, d->stream), "cudaEventRecord");
    s = told(&d->error, cudaEventRecord(d->stop, d->stream), "cudaEventRecord");
    if (s == DEVICE_OK)
        s = settled(d, "cudaStreamQuery");
    if (s == DEVICE_OK)
        s = told(&d->error, cudaEventElapsedTime(&ms, d->start, d->stop),
                 "cudaEventElapsedTime");
    *seconds = 1e-3 * (double)ms;
    return s;
}

enum device_status one_mark(struct cuda_device *d)
{
    enum device_status s = DEVICE_OK;

    if (d->n_marks == DEVICE_MARKS_MAX)
        return cuda_refuse(d, DEVICE_BAD_ARGUMENT, "too many marks");
    if (d->n_marks == d->marks_made) {
        s = told(&d->error, cudaEventCreate(&d->marks[d->n_marks]), "cudaEventCreate");
        d->marks_made += s == DEVICE_OK;
    }
    if (s == DEVICE_OK)
        s = told(&d->error, cudaEventRecord(d->marks[d->n_marks++], d->stream),
                 "cudaEventRecord");
    return s;
}

enum device_status cuda_mark(void *self, double *seconds, uint32_t *n)
{
    struct cuda_device *d = of(self);
    enum device_status s;

    if (!seconds)
        return one_mark(d);
    s = settled(d, "cudaStreamQuery");
    *n = d->n_marks ? d->n_marks - 1 : 0;
    for (uint32_t i = 0; i < *n && s == DEVICE_OK; i++) {
        float ms = 0;
        s = told(&d->error, cudaEventElapsedTime(&ms, d->marks[i], d->marks[i + 1]),
                 "cudaEventElapsedTime");
        seconds[i] = 1e-3 * (double)ms;
    }
    d->n_marks = 0;
    return s;
}

enum device_status record_stop(struct cuda_device *d)
{
    cudaGraph_t graph = NULL;
    enum device_status s =
        told(&d->error, cudaStreamEndCapture(d->stream, &graph), "cudaStreamEndCapture");

    d->recording = false;
    if (d->graph)
        cudaGraphExecDestroy(d->graph);
    d->graph = NULL;
    if (s == DEVICE_OK)
        s = told(&d->error, cudaGraphInstantiate(&d->graph, graph, 0), "cudaGraphInstantiate");
    if (s == DEVICE_OK)
        s = told(&d->error, cudaGraphUpload(d->graph, d->stream), "cudaGraphUpload");
    if (graph)
        cudaGraphDestroy(graph);
    return s;
}

/* A recording ends also where it went wrong in between. */
enum device_status cuda_record(void *self, enum record what)
{
    struct cuda_device *d = of(self);
    enum device_status s = DEVICE_OK;

    if (what == RECORD_RUN)
        return d->graph
                   ? told(&d->error, cudaGraphLaunch(d->graph, d->stream), "cudaGraphLaunch")
                   : cuda_refuse(d, DEVICE_BAD_ARGUMENT, "nothing was recorded");
    if (what == RECORD_STOP)
        return d->recording ? record_stop(d)
                            : cuda_refuse(d, DEVICE_BAD_ARGUMENT, "nothing is recorded");
    s = settled(d, "cudaStreamQuery"); /* copies under way, whose memory would be used again */
    if (s == DEVICE_OK)
        s = stage_made(d); /* nothing may be allocated while the stream is captured */
    if (s == DEVICE_OK)
        s = told(&d->error, cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal),
                 "cudaStreamBeginCapture");
    d->recording = s == DEVICE_OK;
    return s;
}

enum device_status cuda_tally(void *self, struct tally *out, uint32_t kept)
{
    (void)kept;
    return out ? cuda_refuse(self, DEVICE_UNSUPPORTED,
                             "a GPU does not count what its kernels touch; use the CPU build")
               : DEVICE_OK;
}

} /* namespace */

uint32_t cuda_count(struct device_text *why)
{
    int n = 0;

    if (told(why, cudaGetDeviceCount(&n), "cudaGetDeviceCount") != DEVICE_OK)
        return 0;
    if (n <= 0)
        snprintf(why->text, sizeof why->text, "CUDA sees no device");
    return n > 0 ? (uint32_t)n : 0;
}

/* Blocks with much shared memory also ask for the split of it with the first-level cache that
 * lets several of them share a multiprocessor. */
enum device_status cuda_prepare(void *self, const void *kernel, struct shape s)
{
    cudaError_t e;

    if (s.shared_bytes <= 48 * 1024)
        return DEVICE_OK;
    e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             (int)s.shared_bytes);
    if (e == cudaSuccess)
        e = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                 cudaSharedmemCarveoutMaxShared);
    return told(&of(self)->error, e, "cudaFuncSetAttribute");
}

enum device_status cuda_launched(void *self, const char *what)
{
    return told(&of(self)->error, cudaGetLastError(), what);
}

enum device_status cuda_refuse(void *self, enum device_status s, const char *why)
{
    snprintf(of(self)->error.text, sizeof of(self)->error.text, "%s", why);
    return s;
}

cudaStream_t cuda_stream(void *self)
{
    return of(self)->stream;
}

void **cuda_gemm_slot(void *self)
{
    return &of(self)->gemm;
}

int cuda_capability(void *self)
{
    return of(self)->capability;
}

extern "C" const struct backend backend_cuda = {
    cuda_open,
    cuda_close,
    cuda_error,
    cuda_info,
    cuda_alloc,
    cuda_free,
    cuda_fill,
    cuda_copy_bytes,
    cuda_sync,
    cuda_timer,
    cuda_mark,
    cuda_record,
    cuda_tally,
    {
#define X(id) cuda_##id,
        KERNEL_LIST(X)
#undef X
    },
};
