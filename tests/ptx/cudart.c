/* A stand-in for the CUDA runtime library: what nvcc's objects and kernels/cuda/device.cu call,
 * on a GPU that is not there. Device memory is the host's; a launch runs the PTX that the
 * object carries (run.h) and is over when the call returns. Limits of a launch are those of the
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

enum { MODULES_MAX = 32, KERNELS_MAX = 256 };
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
    struct heap heap;
    uint64_t used_bytes;
    cudaError_t last, sticky; /* what the next cudaGetLastError says; a fault stays for good */
    dim3 grid, threads;
    size_t shared_bytes;
    cudaStream_t stream;
} rt;

static cudaError_t said(cudaError_t e)
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
        if (!strcmp(p->functions[k].name, device) && rt.n_kernels < KERNELS_MAX) {
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

cudaError_t __cudaLaunchKernel(void *kernel, dim3 grid, dim3 threads, void **args,
                               size_t shared, cudaStream_t stream);
cudaError_t __cudaLaunchKernel(void *kernel, dim3 grid, dim3 threads, void **args,
                               size_t shared, cudaStream_t stream)
{
    struct kernel *k = kernel;
    struct launch l = {k->program,       k->f,   &rt.heap, {grid.x, grid.y, grid.z}, threads.x,
                       (uint32_t)shared, args[0]};

    (void)stream;
    if (rt.sticky)
        return said(rt.sticky);
    if (!is_allowed(k, grid, threads, shared))
        return said(cudaErrorInvalidConfiguration);
    k->f->launches++;
    if (shared > k->f->shared_bytes)
        k->f->shared_bytes = (uint32_t)shared;
    if (!launch_run(&l))
        rt.sticky = cudaErrorIllegalAddress;
    return said(cudaSuccess);
}

cudaError_t cudaFuncSetAttribute(const void *host, enum cudaFuncAttribute what, int value)
{
    struct kernel *k = kernel_of(host);

    if (!k || what != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        (uint32_t)value > shared_most(k->program->sm))
        return said(cudaErrorInvalidValue);
    k->shared_limit = (uint32_t)value;
    return said(cudaSuccess);
}

/* --- memory --------------------------------------------------------------------------------
 */

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    struct heap *h = &rt.heap;
    uint32_t k = h->n;
    size_t room = (bytes + 511) / 256 * 256; /* never nothing, and no neighbour touches */

    if (bytes > MEMORY_BYTES - rt.used_bytes)
        return said(cudaErrorMemoryAllocation);
    if (h->n == h->room) {
        h->room = 2 * h->room + 64;
        h->ranges = realloc(h->ranges, h->room * sizeof *h->ranges);
    }
    *out = aligned_alloc(256, room);
    memset(*out, 0xff, room);
    for (; k && h->ranges[k - 1].at > (uintptr_t)*out; k--)
        h->ranges[k] = h->ranges[k - 1];
    h->ranges[k] = (struct range){(uintptr_t)*out, bytes};
    h->n++;
    rt.used_bytes += bytes;
    return said(cudaSuccess);
}

cudaError_t cudaFree(void *p)
{
    struct heap *h = &rt.heap;

    for (uint32_t k = 0; k < h->n; k++)
        if (h->ranges[k].at == (uintptr_t)p) {
            rt.used_bytes -= h->ranges[k].bytes;
            memmove(&h->ranges[k], &h->ranges[k + 1], (h->n - k - 1) * sizeof *h->ranges);
            h->n--;
            free(p);
            return said(cudaSuccess);
        }
    return said(p ? cudaErrorInvalidValue : cudaSuccess);
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream)
{
    (void)stream;
    if (!heap_has(&rt.heap, (uintptr_t)p, bytes))
        return said(cudaErrorInvalidValue);
    memset(p, byte, bytes);
    return said(cudaSuccess);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    const void *device = kind == cudaMemcpyHostToDevice ? to : from;

    (void)stream;
    if (!heap_has(&rt.heap, (uintptr_t)device, bytes))
        return said(cudaErrorInvalidValue);
    memcpy(to, from, bytes);
    return said(cudaSuccess);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = MEMORY_BYTES - rt.used_bytes;
    *total_bytes = MEMORY_BYTES;
    return said(cudaSuccess);
}

/* --- the device ----------------------------------------------------------------------------
 */

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return said(cudaSuccess);
}

cudaError_t cudaSetDevice(int index)
{
    return said(index ? cudaErrorInvalidDevice : cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int *out, enum cudaDeviceAttr what, int index)
{
    int sm = rt.n_programs ? (int)rt.programs[0]->sm : 90;

    (void)index;
    if (what != cudaDevAttrComputeCapabilityMajor && what != cudaDevAttrComputeCapabilityMinor)
        return said(cudaErrorInvalidValue);
    *out = what == cudaDevAttrComputeCapabilityMajor ? sm / 10 : sm % 10;
    return said(cudaSuccess);
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
    return said(cudaSuccess);
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return said(cudaSuccess);
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    *out = malloc(1);
    return said(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    free(s);
    return said(cudaSuccess);
}

cudaError_t cudaStreamQuery(cudaStream_t s)
{
    (void)s;
    return said(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    *out = malloc(1);
    return said(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    free(e);
    return said(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    (void)e, (void)s;
    return said(cudaSuccess);
}

/* There is no clock: a millisecond. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t stop)
{
    (void)start, (void)stop;
    *ms = 1.0f;
    return said(cudaSuccess);
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
    default: return "another error";
    }
}

const char *cudaGetErrorString(cudaError_t e)
{
    return cudaGetErrorName(e);
}
