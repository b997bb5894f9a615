/* kernels/dev.h on a GPU: the same names, most of them one instruction. What they mean is said
 * there. Instructions: PTX ISA. bf16 and asynchronous copies need sm_80; below it the former
 * trap (launchers refuse first) and the latter are plain copies. */
#ifndef KVBUDGET_KERNELS_CUDA_DEV_CUH
#define KVBUDGET_KERNELS_CUDA_DEV_CUH

#include <cuda_runtime.h>

#define DEV [[maybe_unused]] static __device__ __forceinline__
#define DEV_CALL [[maybe_unused]] static __device__ __noinline__
#define DEV_SHARED [[maybe_unused]] static __host__ __device__ __forceinline__
#define UNROLL _Pragma("unroll")

#define KERNEL(id, max_threads, args_t, call)                                                  \
    static __global__ void __launch_bounds__(max_threads) id(const __grid_constant__ args_t x) \
    {                                                                                          \
        struct lane *const t = nullptr;                                                        \
        const args_t *const a = &x;                                                            \
        call;                                                                                  \
    }
#define LAUNCHER(id) extern "C" enum device_status cuda_##id(void *self, const void *args)
#define LAUNCH(kernel, s, a)                                                                   \
    (cuda_prepare(self, (const void *)kernel, (s)) == DEVICE_OK                                \
         ? (kernel<<<dim3((s).grid[0], (s).grid[1], (s).grid[2]), (s).threads,                 \
                     (s).shared_bytes, cuda_stream(self)>>>(*(a)),                             \
            cuda_launched(self, #kernel))                                                      \
         : DEVICE_FAULT)
/* In a launcher: another kernel with the same arguments. */
#define FORWARD(id) cuda_##id(self, args)
#define dev_capability(self) cuda_capability(self)
/* The Makefile says so where it lists capability 9.0, whose code then is that of sm_90a. */
#ifdef KVBUDGET_SM90A
#define dev_has_tiles(self) (cuda_capability(self) == 90)
#else
#define dev_has_tiles(self) ((void)(self), false)
#endif
#define dev_prefers_tiles(self) dev_has_tiles(self)
#define dev_refuse(self, status, why) cuda_refuse((self), (status), (why))

enum device_status cuda_prepare(void *self, const void *kernel, struct shape s);
enum device_status cuda_launched(void *self, const char *what);
enum device_status cuda_refuse(void *self, enum device_status s, const char *why);
cudaStream_t cuda_stream(void *self);
void **cuda_gemm_slot(void *self); /* what gemm.cu keeps with the device */
void cuda_gemm_close(void *state);
int cuda_capability(void *self); /* 90 for sm_90 */

struct lane;
struct __align__(16) vec128
{
    uint32_t w[4];
};

/* 750 or 800: later devices run what is made for 80 (Makefile, VIRTUAL). */
#ifdef __CUDA_ARCH__
#define DEV_SM (__CUDA_ARCH__ < 800 ? 750 : 800)
#else
#define DEV_SM 800
#endif

#define dev_thread(t) ((uint32_t)threadIdx.x)
#define dev_threads(t) ((uint32_t)blockDim.x)
#define dev_lane(t) ((uint32_t)threadIdx.x % 32u)
#define dev_warp(t) ((uint32_t)threadIdx.x / 32u)
#define dev_block(t, axis)                                                                     \
    ((uint32_t)((axis) == 0 ? blockIdx.x : (axis) == 1 ? blockIdx.y : blockIdx.z))
#define dev_blocks(t, axis)                                                                    \
    ((uint32_t)((axis) == 0 ? gridDim.x : (axis) == 1 ? gridDim.y : gridDim.z))

extern __shared__ __align__(1024) uint4 dev_shared_memory[];
#define dev_shared(t) ((void *)dev_shared_memory)

#define dev_load8(t, p) (*(const uint8_t *)(p))
#define dev_load16(t, p) (*(const uint16_t *)(p))
#define dev_load32(t, p) (*(const uint32_t *)(p))
#define dev_load64(t, p) (*(const uint64_t *)(p))
#define dev_load128(t, p) (*(const struct vec128 *)(p))
#define dev_stream128(t, p) cuda_stream128(p)
#define dev_load_float(t, p) (*(const float *)(p))
#define dev_store8(t, p, x) (*(uint8_t *)(p) = (uint8_t)(x))
#define dev_store16(t, p, x) (*(uint16_t *)(p) = (uint16_t)(x))
#define dev_store32(t, p, x) (*(uint32_t *)(p) = (x))
#define dev_store64(t, p, x) (*(uint64_t *)(p) = (x))
#define dev_store128(t, p, x) (*(struct vec128 *)(p) = (x))
#define dev_store_float(t, p, x) (*(float *)(p) = (x))

DEV struct vec128 cuda_stream128(const void *p)
{
    uint4 x = __ldcs((const uint4 *)p);
    struct vec128 v = {{x.x, x.y, x.z, x.w}};

    return v;
}

#define dev_add32(t, p, x) atomicAdd((unsigned int *)(p), (unsigned int)(x))
#define dev_shared_add(t, p, x) atomicAdd((unsigned int *)(p), (unsigned int)(x))

#define dev_barrier(t) __syncthreads()
#define dev_sync(t) __syncwarp()
#define dev_sum(t, x, w) cuda_sum((x), (w))
#define dev_max(t, x, w) cuda_max((x), (w))
#define dev_sum_rows(t, x) cuda_sum_rows(x)
#define dev_max_rows(t, x) cuda_max_rows(x)
#define dev_shuffle(t, x, i, w) __shfl_sync(0xffffffffu, (x), (int)(i), (int)(w))
#define dev_ballot(t, x) __ballot_sync(0xffffffffu, (x))
#define dev_mma_bf16(t, c, a, b) cuda_mma_bf16((c), (a), (b))
#define dev_mma_fp16(t, c, a, b) cuda_mma_fp16((c), (a), (b))
#define dev_ldmatrix(t, r, row) cuda_ldmatrix((r), (row))
#define dev_ldmatrix_transposed(t, r, row) cuda_ldmatrix_transposed((r), (row))
#define dev_transpose(t, x) cuda_transpose(x)
#define dev_async(t, shared, p) cuda_async((shared), (p))
#define dev_async_if(t, shared, p, on) cuda_async_if((shared), (p), (on))
#define dev_async32_if(t, shared, p, on) cuda_async32_if((shared), (p), (on))
#define dev_async_commit(t) cuda_async_commit()
#define dev_async_wait(t, n) cuda_async_wait<(n)>()
#define dev_flop(t, issued, useful) ((void)0)
#define dev_exps(t, n) ((void)0)
#define dev_conversions(t, n) ((void)0)

DEV float cuda_sum(float x, uint32_t width)
{
    UNROLL
    for (uint32_t step = width / 2; step; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, (int)step);
    return x;
}

DEV float cuda_max(float x, uint32_t width)
{
    UNROLL
    for (uint32_t step = width / 2; step; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, (int)step));
    return x;
}

DEV float cuda_sum_rows(float x)
{
    UNROLL
    for (int step = 16; step >= 4; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

DEV float cuda_max_rows(float x)
{
    UNROLL
    for (int step = 16; step >= 4; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

DEV void cuda_mma_bf16(float *c, const uint32_t *a, const uint32_t *b)
{
#if DEV_SM >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    (void)c;
    (void)a;
    (void)b;
    __trap();
#endif
}

DEV void cuda_mma_fp16(float *c, const uint32_t *a, const uint32_t *b)
{
#if DEV_SM >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[2]), "r"(a[3]), "r"(b[1]));
#endif
}

DEV uint32_t cuda_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

DEV void cuda_ldmatrix(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(cuda_shared_address(row))
                 : "memory");
}

DEV void cuda_ldmatrix_transposed(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(cuda_shared_address(row))
                 : "memory");
}

DEV uint32_t cuda_transpose(uint32_t x)
{
    uint32_t y;

    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}

DEV void cuda_async32_if(void *shared, const void *p, bool on)
{
#if DEV_SM >= 800
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :
                 : "r"(cuda_shared_address(shared)), "l"(__cvta_generic_to_global(p)),
                   "r"(on ? 4 : 0)
                 : "memory");
#else
    *(uint32_t *)shared = on ? *(const uint32_t *)p : 0;
#endif
}

DEV void cuda_async_if(void *shared, const void *p, bool on)
{
#if DEV_SM >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(cuda_shared_address(shared)), "l"(__cvta_generic_to_global(p)),
                   "r"(on ? 16 : 0)
                 : "memory");
#else
    *(uint4 *)shared = on ? *(const uint4 *)p : make_uint4(0, 0, 0, 0);
#endif
}

DEV void cuda_async(void *shared, const void *p)
{
#if DEV_SM >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                 :
                 : "r"(cuda_shared_address(shared)), "l"(__cvta_generic_to_global(p))
                 : "memory");
#else
    *(uint4 *)shared = *(const uint4 *)p;
#endif
}

DEV void cuda_async_commit(void)
{
#if DEV_SM >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int pending> DEV void cuda_async_wait(void)
{
#if DEV_SM >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

#include "kernels/cuda/tile.cuh"

DEV uint32_t dev_bits(float x)
{
    return __float_as_uint(x);
}

DEV float dev_float(uint32_t u)
{
    return __uint_as_float(u);
}

/* One instruction, 2 ulp; results below 2^-126 become 0 (PTX ISA, ex2.approx.ftz). */
DEV float dev_exp2(float x)
{
    float y;

    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEV float dev_fma(float a, float b, float c)
{
    return __fmaf_rn(a, b, c);
}

DEV uint16_t dev_to_fp16(float x)
{
    uint16_t h;

    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}

DEV float dev_from_fp16(uint16_t h)
{
    float x;

    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
    return x;
}

DEV uint16_t dev_to_bf16(float x)
{
    uint32_t u = __float_as_uint(x);

    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

DEV uint32_t dev_pack_bf16(float low, float high)
{
#if DEV_SM >= 800
    uint32_t w;

    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(high), "f"(low));
    return w;
#else
    return dev_to_bf16(low) | (uint32_t)dev_to_bf16(high) << 16;
#endif
}

DEV uint32_t dev_pack_fp16(float low, float high)
{
#if DEV_SM >= 800
    uint32_t w;

    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(high), "f"(low));
    return w;
#else
    return dev_to_fp16(low) | (uint32_t)dev_to_fp16(high) << 16;
#endif
}

DEV uint32_t dev_permute(uint32_t a, uint32_t b, uint32_t s)
{
    return __byte_perm(a, b, s);
}

/* One instruction; left alone, the compiler makes it two with two constants. */
DEV uint32_t dev_merge(uint32_t w, uint32_t mask, uint32_t rest)
{
    uint32_t y;

    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(w), "r"(mask), "r"(rest));
    return y;
}

DEV uint32_t dev_fma_bf16x2(uint32_t a, uint32_t b, uint32_t c)
{
#if DEV_SM >= 800
    uint32_t d;

    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
#else
    float low = __fmaf_rn(dev_float(a << 16), dev_float(b << 16), dev_float(c << 16));
    float high = __fmaf_rn(dev_float(a & 0xffff0000u), dev_float(b & 0xffff0000u),
                           dev_float(c & 0xffff0000u));

    return dev_pack_bf16(low, high);
#endif
}

DEV uint32_t dev_fma_fp16x2(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t d;

    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

#endif
