/* kernels/dev.h on the CPU. What the names mean is said there. */
#ifndef KVBUDGET_KERNELS_HOST_LANE_H
#define KVBUDGET_KERNELS_HOST_LANE_H

#include <string.h>

#include "kernels/host/bits.h"
#include "kernels/host/host.h"

#define DEV_CALL static
#define UNROLL
#define DEV_PLACE_TEXT(line) #line
#define DEV_PLACE_LINE(line) DEV_PLACE_TEXT(line)
#define DEV_PLACE __FILE__ ":" DEV_PLACE_LINE(__LINE__)

#define KERNEL(id, max_threads, args_t, call)                                                  \
    static void id(struct lane *t, const void *args)                                           \
    {                                                                                          \
        const args_t *a = (const args_t *)args;                                                \
        call;                                                                                  \
    }
#define LAUNCHER(id) enum device_status cpu_##id(void *self, const void *args)
#define LAUNCH(kernel, s, a) host_launch(self, (s), kernel, (a))
#define FORWARD(id) cpu_##id(self, args)
#define dev_capability(self) ((void)(self), 90)
#define dev_has_tiles(self) ((void)(self), true)
/* Small as the shapes of the CPU build are, the kernel with smaller steps suits them better. */
#define dev_prefers_tiles(self) ((void)(self), false)
#define dev_refuse(self, status, why) host_refuse((self), (status), (why))

enum device_status host_refuse(void *self, enum device_status s, const char *why);

#define dev_thread(t) ((t)->thread)
#define dev_threads(t) ((t)->run->shape.threads)
#define dev_lane(t) ((t)->thread % WARP)
#define dev_warp(t) ((t)->thread / WARP)
#define dev_block(t, axis) ((t)->run->block[axis])
#define dev_blocks(t, axis) ((t)->run->shape.grid[axis])
#define dev_shared(t) ((void *)(t)->run->d->shared)

struct vec128 {
    uint32_t w[4];
};

#define DEV_ACCESS(bits, type)                                                                 \
    static inline type host_load##bits(struct lane *t, const void *p, const char *place)       \
    {                                                                                          \
        type x;                                                                                \
        host_load(t, &x, p, sizeof x, place);                                                  \
        return x;                                                                              \
    }                                                                                          \
    static inline void host_store##bits(struct lane *t, void *p, type x, const char *place)    \
    {                                                                                          \
        host_store(t, p, &x, sizeof x, place);                                                 \
    }
DEV_ACCESS(8, uint8_t)
DEV_ACCESS(16, uint16_t)
DEV_ACCESS(32, uint32_t)
DEV_ACCESS(64, uint64_t)
DEV_ACCESS(128, struct vec128)
DEV_ACCESS(_float, float)
#define dev_load8(t, p) host_load8((t), (p), DEV_PLACE)
#define dev_load16(t, p) host_load16((t), (p), DEV_PLACE)
#define dev_load32(t, p) host_load32((t), (p), DEV_PLACE)
#define dev_load64(t, p) host_load64((t), (p), DEV_PLACE)
#define dev_load128(t, p) host_load128((t), (p), DEV_PLACE)
#define dev_stream128(t, p) host_load128((t), (p), DEV_PLACE)
#define dev_load_float(t, p) host_load_float((t), (p), DEV_PLACE)
#define dev_store8(t, p, x) host_store8((t), (p), (x), DEV_PLACE)
#define dev_store16(t, p, x) host_store16((t), (p), (x), DEV_PLACE)
#define dev_store32(t, p, x) host_store32((t), (p), (x), DEV_PLACE)
#define dev_store64(t, p, x) host_store64((t), (p), (x), DEV_PLACE)
#define dev_store128(t, p, x) host_store128((t), (p), (x), DEV_PLACE)
#define dev_store_float(t, p, x) host_store_float((t), (p), (x), DEV_PLACE)

#define dev_add32(t, p, x) host_add32((t), (p), (x), DEV_PLACE)
#define dev_shared_add(t, p, x) host_shared_add((t), (p), (x), DEV_PLACE)

#define dev_barrier(t) host_meet((t), HOST_BARRIER, 0, DEV_PLACE)
#define dev_sync(t) host_meet((t), HOST_SYNC, 0, DEV_PLACE)
#define dev_sum(t, x, w) host_reduce((t), HOST_SUM, (x), (w), DEV_PLACE)
#define dev_max(t, x, w) host_reduce((t), HOST_MAX, (x), (w), DEV_PLACE)
#define dev_sum_rows(t, x) host_reduce((t), HOST_SUM_ROWS, (x), WARP, DEV_PLACE)
#define dev_max_rows(t, x) host_reduce((t), HOST_MAX_ROWS, (x), WARP, DEV_PLACE)
#define dev_shuffle(t, x, i, w) host_shuffle((t), (x), (i), (w), DEV_PLACE)
#define dev_ballot(t, x) host_ballot((t), (x), DEV_PLACE)
#define dev_mma_bf16(t, c, a, b) host_mma((t), HOST_MMA_BF16, (c), (a), (b), DEV_PLACE)
#define dev_mma_fp16(t, c, a, b) host_mma((t), HOST_MMA_FP16, (c), (a), (b), DEV_PLACE)
#define dev_ldmatrix(t, r, row) host_ldmatrix((t), HOST_LDMATRIX, (r), (row), DEV_PLACE)
#define dev_ldmatrix_transposed(t, r, row)                                                     \
    host_ldmatrix((t), HOST_LDMATRIX_TRANSPOSED, (r), (row), DEV_PLACE)
#define dev_transpose(t, x) host_transpose((t), (x), DEV_PLACE)
#define dev_async(t, shared, p) host_async_copy((t), (shared), (p), 16, DEV_PLACE)
#define dev_async_if(t, shared, p, on)                                                         \
    host_async_copy((t), (shared), (on) ? (p) : NULL, 16, DEV_PLACE)
#define dev_async32_if(t, shared, p, on)                                                       \
    host_async_copy((t), (shared), (on) ? (p) : NULL, 4, DEV_PLACE)
#define dev_async_commit(t) ((void)(t)->group++)
#define dev_async_wait(t, n) host_async_wait((t), (n), DEV_PLACE)

uint32_t host_add32(struct lane *t, uint32_t *p, uint32_t x, const char *place);
uint32_t host_shared_add(struct lane *t, uint32_t *p, uint32_t x, const char *place);
float host_reduce(struct lane *t, enum host_wait w, float x, uint32_t width, const char *place);
uint32_t host_shuffle(struct lane *t, uint32_t x, uint32_t i, uint32_t width,
                      const char *place);
uint32_t host_transpose(struct lane *t, uint32_t x, const char *place);
uint32_t host_ballot(struct lane *t, bool x, const char *place);
void host_mma(struct lane *t, enum host_wait w, float *c, const uint32_t *a, const uint32_t *b,
              const char *place);
void host_ldmatrix(struct lane *t, enum host_wait w, uint32_t *r, const void *row,
                   const char *place);

#define dev_flop(t, issued_n, useful_n)                                                        \
    ((t)->run->d->tally.issued.vector_flop += (issued_n),                                      \
     (t)->run->d->tally.issued.useful_flop += (useful_n))
#define dev_exps(t, n) ((t)->run->d->tally.issued.exps += (n))
#define dev_conversions(t, n) ((t)->run->d->tally.issued.conversions += (n))

#endif
