/* A stand-in for the CUDA runtime library: what nvcc's objects and kernels/cuda/device.cu call,
 * on a GPU that is not there. Device memory is the host's; a launch runs the PTX that the
 * object carries (run.h) when its turn comes (stream.h). Limits of a launch are those of the
 * architecture that the PTX is for.
 *
 * A file named by PTX_REPORT gets, at the end, a line per kernel that was launched: its name,
 * launches, the share of its instructions that ran, and the most shared memory it asked for.
 *
 * source: CUDA Runtime API 13.0; CUDA C++ Programming Guide, table of compute capabilities */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>

#include "tests/ptx/run.h"
#include "tests/ptx/stream.h"

enum { MODULES_MAX = 64, KERNELS_MAX = 512, ARGS_ROOM = 1024 };
static const uint64_t MEMORY_BYTES = UINT64_C(4) << 30;

struct kernel {
    const void *host;
    struct program *program;
    struct function *f;
    uint32_t shared_limit; /* dynamic bytes that a launch may ask for */
};

static struct runtime {
    struct program *programs[MODULES_MAX];
    uint32_t n_programs, n_kernels;
    struct kernel kernels[KERNELS_MAX];
    struct heap heap, pinned;
    uint64_t used_bytes;
    cudaError_t last, sticky; /* what the next cudaGetLastError says; a fault stays for good */
    dim3 grid, threads;
    size_t shared_bytes;
    cudaStream_t stream;
} rt;

cudaError_t cudart_said(cudaError_t e)
{
    if (rt.sticky)
        e = rt.sticky;
    if (e != cudaSuccess)
        rt.last = e;
    return e;
}

/* --- modules -------------------------------------------------------------------------------
 */

struct fat_wrapper {
    int magic, version;
    const uint32_t *data;
    const void *more;
};

/* The PTX of a fat binary: not compressed, so that it lies there as text. */
static const char *text_in(const struct fat_wrapper *w)
{
    uint64_t bytes;
    const char *s = (const char *)w->data;

    memcpy(&bytes, s + 8, sizeof bytes);
    for (uint64_t i = 16; i + 16 < bytes; i++)
        if (!memcmp(s + i, "\n.version ", 10))
            return s + i;
    return NULL;
}

void **__cudaRegisterFatBinary(void *wrapper);
void **__cudaRegisterFatBinary(void *wrapper)
{
    const char *text = text_in(wrapper);
    struct program *p = text ? program_read(text) : NULL;

    if (!p || rt.n_programs == MODULES_MAX) {
        fprintf(stderr, "ptx: an object without PTX that can be read\n");
        abort();
    }
    rt.programs[rt.n_programs++] = p;
    return (void **)(void *)p;
}

void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaRegisterFatBinaryEnd(void **handle)
{
    (void)handle;
}

static void report(void)
{
    const char *name = getenv("PTX_REPORT");
    FILE *out = name ? fopen(name, "a") : NULL;

    if (out)
        setvbuf(out, NULL, _IOLBF, 1024); /* programs run at once: a line is one write */
    for (uint32_t k = 0; k < rt.n_kernels && out; k++) {
        const struct function *f = rt.kernels[k].f;
        uint32_t ran = 0;
        for (uint32_t i = 0; i < f->n_code; i++)
            ran += f->code[i].ran;
        fprintf(out, "sm_%u %s %u %.1f%% %u\n", rt.kernels[k].program->sm, f->name, f->launches,
                100.0 * ran / f->n_code, f->shared_bytes);
    }
    if (out)
        fclose(out);
}

void __cudaUnregisterFatBinary(void **handle);
void __cudaUnregisterFatBinary(void **handle)
{
    (void)handle;
    if (rt.n_programs) /* the first of them */
        report();
    rt.n_programs = 0;
}

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int limit, void *tid, void *bid, void *block, void *grid,
                            int *warp);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int limit, void *tid, void *bid, void *block, void *grid, int *warp)
{
    struct program *p = (struct program *)(void *)handle;

    (void)name, (void)limit, (void)tid, (void)bid, (void)block, (void)grid, (void)warp;
    for (uint32_t k = 0; k < p->n_functions; k++)
        if (!strcmp(p->functions[k].name, device) && rt.n_kernels < KERNELS_MAX &&
            p->functions[k].params[0].bytes <= ARGS_ROOM) {
            rt.kernels[rt.n_kernels++] = (struct kernel){host, p, &p->functions[k], 48 * 1024};
            return;
        }
    fprintf(stderr, "ptx: no entry is called %s\n", device);
    abort();
}

static struct kernel *kernel_of(const void *host)
{
    for (uint32_t k = 0; k < rt.n_kernels; k++)
        if (rt.kernels[k].host == host)
            return &rt.kernels[k];
    return NULL;
}

/* --- launches ------------------------------------------------------------------------------
 */

/* The most dynamic shared memory of a block. */
static uint32_t shared_most(uint32_t sm)
{
    switch (sm) {
    case 75: return 64 * 1024;
    case 80: return 163 * 1024;
    case 90:
    case 100: return 227 * 1024;
    default: return 99 * 1024;
    }
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 threads, size_t shared, void *stream);
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 threads, size_t shared, void *stream)
{
    rt.grid = grid;
    rt.threads = threads;
    rt.shared_bytes = shared;
    rt.stream = stream;
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *threads, size_t *shared, void *stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *threads, size_t *shared, void *stream)
{
    *grid = rt.grid;
    *threads = rt.threads;
    *shared = rt.shared_bytes;
    *(cudaStream_t *)stream = rt.stream;
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(void **kernel, const void *host);
cudaError_t __cudaGetKernel(void **kernel, const void *host)
{
    *kernel = kernel_of(host);
    return *kernel ? cudaSuccess : cudaErrorInvalidDeviceFunction;
}

static bool is_allowed(const struct kernel *k, dim3 grid, dim3 threads, size_t shared)
{
    bool grid_fits = grid.x && grid.y && grid.z && grid.x <= 0x7fffffffu && grid.y <= 65535 &&
                     grid.z <= 65535;
    uint32_t most = k->f->max_threads ? k->f->max_threads : THREADS_MAX;

    if (grid_fits && threads.x && threads.x <= most && threads.x % 32 == 0 && threads.y == 1 &&
        threads.z == 1 && shared <= k->shared_limit)
        return true;
    fprintf(stderr, "ptx: %s: grid %u %u %u, %u threads of %u, %zu shared bytes of %u\n",
            k->f->name, grid.x, grid.y, grid.z, threads.x, most, shared, k->shared_limit);
    return false;
}

struct asked_launch {
    struct launch l;
    _Alignas(16) uint8_t args[ARGS_ROOM];
};

static void run_launch(const void *state)
{
    struct asked_launch a;

    memcpy(&a, state, sizeof a);
    a.l.args = a.args;
    if (!rt.sticky && !launch_run(&a.l))
        rt.sticky = cudaErrorIllegalAddress;
}

cudaError_t __cudaLaunchKernel(void *kernel, dim3 grid, dim3 threads, void **args,
                               size_t shared, cudaStream_t stream);
cudaError_t __cudaLaunchKernel(void *kernel, dim3 grid, dim3 threads, void **args,
                               size_t shared, cudaStream_t stream)
{
    struct kernel *k = kernel;
    struct asked_launch a = {.l = {k->program,
                                   k->f,
                                   &rt.heap,
                                   {grid.x, grid.y, grid.z},
                                   threads.x,
                                   (uint32_t)shared,
                                   NULL}};

    if (rt.sticky)
        return cudart_said(rt.sticky);
    if (!is_allowed(k, grid, threads, shared))
        return cudart_said(cudaErrorInvalidConfiguration);
    k->f->launches++;
    if (shared > k->f->shared_bytes)
        k->f->shared_bytes = (uint32_t)shared;
    memcpy(a.args, args[0], k->f->params[0].bytes);
    stream_ask(stream, run_launch, &a, sizeof a);
    return cudart_said(cudaSuccess);
}

cudaError_t cudaFuncSetAttribute(const void *host, enum cudaFuncAttribute what, int value)
{
    struct kernel *k = kernel_of(host);

    if (k && what == cudaFuncAttributePreferredSharedMemoryCarveout) /* a hint */
        return cudart_said(value >= -1 && value <= 100 ? cudaSuccess : cudaErrorInvalidValue);
    if (!k || what != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        (uint32_t)value > shared_most(k->program->sm))
        return cudart_said(cudaErrorInvalidValue);
    k->shared_limit = (uint32_t)value;
    return cudart_said(cudaSuccess);
}

/* --- memory --------------------------------------------------------------------------------
 */

/* Never nothing, no neighbour touches, and what is there is no number in any type. */
static void *take(struct heap *h, size_t bytes)
{
    size_t room = (bytes + 511) / 256 * 256;
    void *p = aligned_alloc(256, room);
    uint32_t k = h->n;

    if (h->n == h->room) {
        h->room = 2 * h->room + 64;
        h->ranges = realloc(h->ranges, h->room * sizeof *h->ranges);
    }
    memset(p, 0xff, room);
    for (; k && h->ranges[k - 1].at > (uintptr_t)p; k--)
        h->ranges[k] = h->ranges[k - 1];
    h->ranges[k] = (struct range){(uintptr_t)p, bytes};
    h->n++;
    return p;
}

/* False: `p` was not taken. Its size otherwise. */
static bool give_back(struct heap *h, void *p, uint64_t *bytes)
{
    for (uint32_t k = 0; k < h->n; k++)
        if (h->ranges[k].at == (uintptr_t)p) {
            *bytes = h->ranges[k].bytes;
            memmove(&h->ranges[k], &h->ranges[k + 1], (h->n - k - 1) * sizeof *h->ranges);
            h->n--;
            free(p);
            return true;
        }
    return false;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    if (stream_forbids())
        return cudart_said(cudaErrorStreamCaptureUnsupported);
    if (bytes > MEMORY_BYTES - rt.used_bytes)
        return cudart_said(cudaErrorMemoryAllocation);
    *out = take(&rt.heap, bytes);
    rt.used_bytes += bytes;
    return cudart_said(cudaSuccess);
}

/* Waits for all that was asked. */
cudaError_t cudaFree(void *p)
{
    uint64_t bytes = 0;

    if (stream_forbids())
        return cudart_said(cudaErrorStreamCaptureUnsupported);
    stream_finish();
    if (p && !give_back(&rt.heap, p, &bytes))
        return cudart_said(cudaErrorInvalidValue);
    rt.used_bytes -= bytes;
    return cudart_said(cudaSuccess);
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    if (stream_forbids())
        return cudart_said(cudaErrorStreamCaptureUnsupported);
    *out = take(&rt.pinned, bytes);
    return cudart_said(cudaSuccess);
}

cudaError_t cudaFreeHost(void *p)
{
    uint64_t bytes;

    stream_finish();
    return cudart_said(p && !give_back(&rt.pinned, p, &bytes) ? cudaErrorInvalidValue
                                                              : cudaSuccess);
}

struct asked_copy {
    void *to;
    const void *from; /* NULL: `byte` everywhere */
    int byte;
    size_t bytes;
    bool up;
};

/* A graph may outlive what its copies are of. */
static void run_copy(const void *state)
{
    const struct asked_copy *c = state;
    const void *device = c->up ? c->to : c->from;

    if (!heap_has(&rt.heap, (uintptr_t)device, c->bytes) ||
        (c->up && c->from && !heap_has(&rt.pinned, (uintptr_t)c->from, c->bytes)))
        rt.sticky = cudaErrorIllegalAddress;
    if (rt.sticky)
        return;
    if (c->from)
        memcpy(c->to, c->from, c->bytes);
    else
        memset(c->to, c->byte, c->bytes);
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream)
{
    struct asked_copy c = {.to = p, .byte = byte, .bytes = bytes, .up = true};

    if (!heap_has(&rt.heap, (uintptr_t)p, bytes))
        return cudart_said(cudaErrorInvalidValue);
    stream_ask(stream, run_copy, &c, sizeof c);
    return cudart_said(cudaSuccess);
}

/* Memory that is not pinned is copied before the call returns. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    bool up = kind == cudaMemcpyHostToDevice;
    struct asked_copy c = {.to = to, .from = from, .bytes = bytes, .up = up};
    bool pinned = heap_has(&rt.pinned, (uintptr_t)(up ? from : to), bytes);

    if ((!up && kind != cudaMemcpyDeviceToHost) ||
        !heap_has(&rt.heap, (uintptr_t)(up ? to : from), bytes))
        return cudart_said(cudaErrorInvalidValue);
    if (pinned) {
        stream_ask(stream, run_copy, &c, sizeof c);
        return cudart_said(cudaSuccess);
    }
    if (stream_forbids())
        return cudart_said(cudaErrorStreamCaptureUnsupported);
    stream_finish();
    if (!rt.sticky)
        memcpy(to, from, bytes);
    return cudart_said(cudaSuccess);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = MEMORY_BYTES - rt.used_bytes;
    *total_bytes = MEMORY_BYTES;
    return cudart_said(cudaSuccess);
}

/* --- the device ----------------------------------------------------------------------------
 */

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudart_said(cudaSuccess);
}

cudaError_t cudaSetDevice(int index)
{
    return cudart_said(index ? cudaErrorInvalidDevice : cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int *out, enum cudaDeviceAttr what, int index)
{
    int sm = rt.n_programs ? (int)rt.programs[0]->sm : 90;

    (void)index;
    if (what != cudaDevAttrComputeCapabilityMajor && what != cudaDevAttrComputeCapabilityMinor)
        return cudart_said(cudaErrorInvalidValue);
    *out = what == cudaDevAttrComputeCapabilityMajor ? sm / 10 : sm % 10;
    return cudart_said(cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int index)
{
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "PTX interpreter");
    p->l2CacheSize = 1 << 20;
    p->multiProcessorCount = 4;
    cudaDeviceGetAttribute(&p->major, cudaDevAttrComputeCapabilityMajor, index);
    return cudaDeviceGetAttribute(&p->minor, cudaDevAttrComputeCapabilityMinor, index);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 0;
    return cudart_said(cudaSuccess);
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudart_said(cudaSuccess);
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = rt.last;

    rt.last = cudaSuccess;
    return rt.sticky ? rt.sticky : e;
}

const char *cudaGetErrorName(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
    default: return "another error";
    }
}

const char *cudaGetErrorString(cudaError_t e)
{
    return cudaGetErrorName(e);
}
