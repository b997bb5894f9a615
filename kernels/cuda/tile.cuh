/* Products of tiles in shared memory by a warpgroup (kernels/dev.h says what they are):
 * wgmma.mma_async of sm_90a. Elsewhere nothing launches a kernel that has them.
 *
 * A descriptor names a matrix in shared memory: its address, the bytes from 8 rows to the next
 * 8, and the 128-byte swizzle. K is read along its rows, 16 elements being 32 bytes further
 * within the swizzled 128; V across them, 16 tokens being 2 times 8 rows further, and the next
 * 64 columns a block [PTX ISA, wgmma: matrix descriptor, strides]. */
#ifndef KVBUDGET_KERNELS_CUDA_TILE_CUH
#define KVBUDGET_KERNELS_CUDA_TILE_CUH

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define CUDA_TILES 1
#else
#define CUDA_TILES 0
#endif

#define dev_tile_scores(t, x, a, b, units, fp16)                                               \
    cuda_tile_scores((x), (a), (b), (units), (fp16))
#define dev_tile_values(t, o, prob, v, columns, fp16)                                          \
    cuda_tile_values((o), (prob), (v), (columns), (fp16))
#define dev_tile_fence(t) cuda_tile_fence()
#define dev_settle(t, x) cuda_settle(x)
#define dev_tile_wait(t, n) cuda_tile_wait<(n)>()

enum { CUDA_TILE_BLOCK_BYTES = 128 * 128, CUDA_TILE_8_ROWS_BYTES = 8 * 128 };

#if CUDA_TILES
DEV uint64_t cuda_tile_descriptor(const void *tile, uint32_t offset_bytes)
{
    uint32_t at = cuda_shared_address(tile) + offset_bytes;

    return (uint64_t)(at >> 4 & 0x3fffu) | (uint64_t)(CUDA_TILE_BLOCK_BYTES >> 4) << 16 |
           (uint64_t)(CUDA_TILE_8_ROWS_BYTES >> 4) << 32 | (uint64_t)1 << 62;
}

#define CUDA_R8(a, b, c, d, e, f, g, h)                                                        \
    "%" #a ",%" #b ",%" #c ",%" #d ",%" #e ",%" #f ",%" #g ",%" #h
#define CUDA_R32                                                                               \
    CUDA_R8(0, 1, 2, 3, 4, 5, 6, 7)                                                            \
    "," CUDA_R8(8, 9, 10, 11, 12, 13, 14, 15) "," CUDA_R8(                                     \
        16, 17, 18, 19, 20, 21, 22, 23) "," CUDA_R8(24, 25, 26, 27, 28, 29, 30, 31)
#define CUDA_R64                                                                               \
    CUDA_R32 "," CUDA_R8(32, 33, 34, 35, 36, 37, 38, 39) "," CUDA_R8(                          \
        40, 41, 42, 43, 44, 45, 46, 47) "," CUDA_R8(48, 49, 50, 51, 52, 53, 54,                \
                                                    55) "," CUDA_R8(56, 57, 58, 59, 60, 61,    \
                                                                    62, 63)
#define CUDA_F8(x, i)                                                                          \
    "+f"(x[i]), "+f"(x[i + 1]), "+f"(x[i + 2]), "+f"(x[i + 3]), "+f"(x[i + 4]),                \
        "+f"(x[i + 5]), "+f"(x[i + 6]), "+f"(x[i + 7])
#define CUDA_F32(x, i) CUDA_F8(x, i), CUDA_F8(x, i + 8), CUDA_F8(x, i + 16), CUDA_F8(x, i + 24)

/* Q and K from shared memory; `more`: adds to x. */
#define CUDA_SCORES(type)                                                                      \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %66, 0;"                                       \
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {" CUDA_R64    \
                 "}, %64, %65, p, 1, 1, 0, 0;}"                                                \
                 : CUDA_F32(x, 0), CUDA_F32(x, 32)                                             \
                 : "l"(a), "l"(b), "r"(more))
/* P from registers, V from shared memory, transposed. */
#define CUDA_VALUES_64(type)                                                                   \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %37, 0;"                                       \
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" CUDA_R32     \
                 "}, {%32,%33,%34,%35}, %36, p, 1, 1, 1;}"                                     \
                 : CUDA_F32(o, 0)                                                              \
                 : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "l"(v), "r"(1))
#define CUDA_VALUES_128(type)                                                                  \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %69, 0;"                                       \
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {" CUDA_R64    \
                 "}, {%64,%65,%66,%67}, %68, p, 1, 1, 1;}"                                     \
                 : CUDA_F32(o, 0), CUDA_F32(o, 32)                                             \
                 : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "l"(v), "r"(1))

DEV void cuda_tile_scores_16(float *x, uint64_t a, uint64_t b, int more, bool fp16)
{
    if (fp16)
        CUDA_SCORES("f16");
    else
        CUDA_SCORES("bf16");
}

DEV void cuda_tile_values_16(float *o, const uint32_t *p, uint64_t v, uint32_t columns,
                             bool fp16)
{
    if (columns == 64 && fp16)
        CUDA_VALUES_64("f16");
    else if (columns == 64)
        CUDA_VALUES_64("bf16");
    else if (fp16)
        CUDA_VALUES_128("f16");
    else
        CUDA_VALUES_128("bf16");
}
#endif

DEV void cuda_tile_begin(void)
{
#if CUDA_TILES
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

DEV void cuda_tile_commit(void)
{
#if CUDA_TILES
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

DEV void cuda_tile_scores(float *x, const void *a, const void *b, uint32_t units, bool fp16)
{
#if CUDA_TILES
    cuda_tile_begin();
    UNROLL
    for (uint32_t i = 0; i < units; i++) {
        uint32_t at = i / 4 * CUDA_TILE_BLOCK_BYTES + i % 4 * 32;
        cuda_tile_scores_16(x, cuda_tile_descriptor(a, at), cuda_tile_descriptor(b, at), i > 0,
                            fp16);
    }
    cuda_tile_commit();
#else
    __trap();
#endif
}

DEV void cuda_tile_values(float *o, uint32_t prob[][4], const void *v, uint32_t columns,
                          bool fp16)
{
#if CUDA_TILES
    cuda_tile_begin();
    UNROLL
    for (uint32_t i = 0; i < 8; i++)
        cuda_tile_values_16(o, prob[i], cuda_tile_descriptor(v, 2 * i * CUDA_TILE_8_ROWS_BYTES),
                            columns, fp16);
    cuda_tile_commit();
#else
    __trap();
#endif
}

DEV void cuda_tile_fence(void)
{
#if CUDA_TILES
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/* The assembler would move a wait in front of what makes x, were there not a branch on it. */
DEV void cuda_settle(float x)
{
    if (x < 0.0f)
        asm volatile("trap;");
}

template <int pending> DEV void cuda_tile_wait(void)
{
#if CUDA_TILES
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
#endif
}

#endif
