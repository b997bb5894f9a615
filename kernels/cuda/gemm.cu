/* Products through cuBLASLt, which is opened at the first one: 200 MB that a planner never
 * needs. The prototypes are our own, of what versions 12 and 13 have in common; matrices of the
 * library are column by column, so that out^T = w x^T is what it is asked for. What it chose
 * for a shape is kept with the device.
 *
 * source: cuBLAS 13.0 documentation, cublasLt API (constants by value) */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/dev.h"

#include "kernels/gemm.h"

namespace
{

enum { COMPUTE_32F = 68, REAL_32F = 0, REAL_16F = 2, REAL_16BF = 14 };
enum { DESC_TRANS_A = 3, DESC_EPILOGUE = 7, DESC_BIAS = 8, DESC_BIAS_TYPE = 26 };
enum { LAYOUT_BATCH = 5, LAYOUT_STEP = 6 };
enum { TRANSPOSED = 1, EPILOGUE_BIAS = 4, PREFERENCE_WORK_BYTES = 1, PREFERENCE_ALIGN_A = 5 };
enum { PLANS = 128, ALIGNMENT = 16 };

struct heuristic { /* cublasLtMatmulHeuristicResult_t */
    uint64_t algo[8];
    size_t work_bytes;
    int state;
    float waves;
    int reserved[4];
};

struct library {
    void *handle;
    size_t (*version)(void);
    int (*create)(void **lt);
    int (*destroy)(void *lt);
    int (*desc_new)(void **desc, int compute, int scale);
    int (*desc_set)(void *desc, int what, const void *value, size_t bytes);
    int (*desc_free)(void *desc);
    int (*layout_new)(void **layout, int type, uint64_t rows, uint64_t columns, int64_t ld);
    int (*layout_set)(void *layout, int what, const void *value, size_t bytes);
    int (*layout_free)(void *layout);
    int (*preference_new)(void **p);
    int (*preference_set)(void *p, int what, const void *value, size_t bytes);
    int (*preference_free)(void *p);
    int (*choose)(void *lt, void *desc, void *a, void *b, void *c, void *d, void *preference,
                  int asked, struct heuristic *out, int *found);
    int (*multiply)(void *lt, void *desc, const void *alpha, const void *a, void *a_layout,
                    const void *b, void *b_layout, const void *beta, const void *c,
                    void *c_layout, void *d, void *d_layout, const uint64_t *algo, void *work,
                    size_t work_bytes, cudaStream_t stream);
};

const struct {
    const char *name;
    size_t offset;
} symbols[] = {
    {"cublasLtGetVersion", offsetof(struct library, version)},
    {"cublasLtCreate", offsetof(struct library, create)},
    {"cublasLtDestroy", offsetof(struct library, destroy)},
    {"cublasLtMatmulDescCreate", offsetof(struct library, desc_new)},
    {"cublasLtMatmulDescSetAttribute", offsetof(struct library, desc_set)},
    {"cublasLtMatmulDescDestroy", offsetof(struct library, desc_free)},
    {"cublasLtMatrixLayoutCreate", offsetof(struct library, layout_new)},
    {"cublasLtMatrixLayoutSetAttribute", offsetof(struct library, layout_set)},
    {"cublasLtMatrixLayoutDestroy", offsetof(struct library, layout_free)},
    {"cublasLtMatmulPreferenceCreate", offsetof(struct library, preference_new)},
    {"cublasLtMatmulPreferenceSetAttribute", offsetof(struct library, preference_set)},
    {"cublasLtMatmulPreferenceDestroy", offsetof(struct library, preference_free)},
    {"cublasLtMatmulAlgoGetHeuristic", offsetof(struct library, choose)},
    {"cublasLtMatmul", offsetof(struct library, multiply)},
};

/* The toolkit's folder comes last: it often is not on the loader's path. The library stays in
 * the process once it is there: the next device needs it again, and its kernels are the
 * driver's. */
const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12",
                             "/usr/local/cuda/lib64/libcublasLt.so.13",
                             "/usr/local/cuda/lib64/libcublasLt.so.12"};

struct plan {
    struct gemm_args of; /* its shape; addresses do not matter */
    bool biased;
    void *desc, *a, *b, *d;
    uint64_t algo[8];
};

struct gemm_state {
    struct library lib;
    void *lt;
    struct plan plans[PLANS];
    uint32_t n_plans, next;
};

enum device_status refused(void *self, enum device_status s, const char *what, int code)
{
    char text[256];

    snprintf(text, sizeof text, "cuBLASLt: %s (status %d)", what, code);
    return cuda_refuse(self, s, text);
}

/* NULL, or what is wrong with the library found. */
const char *load_symbols(struct library *lib)
{
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *at = dlsym(lib->handle, symbols[i].name);
        if (!at)
            return symbols[i].name;
        memcpy(reinterpret_cast<char *>(lib) + symbols[i].offset, &at, sizeof at);
    }
    return NULL;
}

enum device_status open_library(void *self, struct library *lib)
{
    char text[256];

    for (size_t i = 0; i < sizeof names / sizeof *names && !lib->handle; i++)
        lib->handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!lib->handle)
        return cuda_refuse(self, DEVICE_UNSUPPORTED,
                           "no cuBLASLt for matrix products: looked for libcublasLt.so.13 and "
                           ".12 on the loader's path and in /usr/local/cuda/lib64");
    const char *missing = load_symbols(lib);
    if (missing) {
        snprintf(text, sizeof text, "cuBLASLt lacks %s", missing);
        return cuda_refuse(self, DEVICE_UNSUPPORTED, text);
    }
    size_t version = lib->version();
    if (version / 10000 == 12 || version / 10000 == 13)
        return DEVICE_OK;
    snprintf(text, sizeof text, "cuBLASLt version %zu is not one of 12 and 13", version);
    return cuda_refuse(self, DEVICE_UNSUPPORTED, text);
}

void drop(struct gemm_state *s, struct plan *p)
{
    if (p->desc)
        s->lib.desc_free(p->desc);
    if (p->a)
        s->lib.layout_free(p->a);
    if (p->b)
        s->lib.layout_free(p->b);
    if (p->d)
        s->lib.layout_free(p->d);
    memset(p, 0, sizeof *p);
}

enum device_status opened(void *self, struct gemm_state **out)
{
    void **slot = cuda_gemm_slot(self);
    struct gemm_state *s = static_cast<struct gemm_state *>(*slot);
    enum device_status status;

    *out = s;
    if (s)
        return DEVICE_OK;
    s = static_cast<struct gemm_state *>(calloc(1, sizeof *s));
    if (!s)
        return cuda_refuse(self, DEVICE_OUT_OF_MEMORY, "out of host memory");
    status = open_library(self, &s->lib);
    int code = status == DEVICE_OK ? s->lib.create(&s->lt) : 0;
    if (code)
        status = refused(self, DEVICE_FAULT, "cublasLtCreate failed", code);
    if (status != DEVICE_OK) {
        s->lt = NULL;
        cuda_gemm_close(s);
        return status;
    }
    *out = s;
    *slot = s;
    return DEVICE_OK;
}

/* The same shape, without addresses and with what 0 stands for. */
struct gemm_args shape_of(const struct gemm_args *a)
{
    struct gemm_args of = *a;

    of.x = of.w = of.bias = NULL;
    of.out = of.work = NULL;
    of.stride = a->stride ? a->stride : a->outs;
    of.x_stride = a->x_stride ? a->x_stride : a->in;
    of.products = a->products ? a->products : 1;
    return of;
}

bool describes(const struct plan *p, const struct gemm_args *a)
{
    const struct gemm_args *b = &p->of;

    return p->desc && b->rows == a->rows && b->outs == a->outs && b->in == a->in &&
           b->stride == a->stride && b->x_stride == a->x_stride && b->across == a->across &&
           b->products == a->products && b->x_step == a->x_step && b->w_step == a->w_step &&
           b->out_step == a->out_step && b->work_bytes == a->work_bytes && b->fp16 == a->fp16 &&
           b->wide == a->wide;
}

/* Tells an operand how many of them there are and how far apart. */
int repeat(struct library *lib, void *layout, const struct gemm_args *a, uint64_t step)
{
    int32_t count = (int32_t)a->products;
    int64_t apart = (int64_t)step;
    int bad;

    if (a->products == 1)
        return 0;
    bad = lib->layout_set(layout, LAYOUT_BATCH, &count, sizeof count);
    return bad ? bad : lib->layout_set(layout, LAYOUT_STEP, &apart, sizeof apart);
}

int describe(struct library *lib, struct plan *p)
{
    const struct gemm_args *a = &p->of;
    int type = a->fp16 ? REAL_16F : REAL_16BF, bias = EPILOGUE_BIAS;
    int turn = a->across ? 0 : TRANSPOSED;
    uint64_t high = a->across ? a->outs : a->in, wide = a->across ? a->in : a->outs;
    int bad = lib->desc_new(&p->desc, COMPUTE_32F, REAL_32F);

    bad = bad ? bad : lib->desc_set(p->desc, DESC_TRANS_A, &turn, sizeof turn);
    if (!bad && p->biased)
        bad = lib->desc_set(p->desc, DESC_EPILOGUE, &bias, sizeof bias);
    if (!bad && p->biased)
        bad = lib->desc_set(p->desc, DESC_BIAS_TYPE, &type, sizeof type);
    bad = bad ? bad : lib->layout_new(&p->a, type, high, wide, (int64_t)high);
    bad = bad ? bad : lib->layout_new(&p->b, type, a->in, a->rows, a->x_stride);
    bad = bad ? bad
              : lib->layout_new(&p->d, a->wide ? REAL_32F : type, a->outs, a->rows, a->stride);
    bad = bad ? bad : repeat(lib, p->a, a, a->w_step);
    bad = bad ? bad : repeat(lib, p->b, a, a->x_step);
    return bad ? bad : repeat(lib, p->d, a, a->out_step);
}

int choose(struct gemm_state *s, struct plan *p)
{
    struct heuristic h;
    void *preference = NULL;
    uint32_t alignment = ALIGNMENT;
    int found = 0, bad = s->lib.preference_new(&preference);

    memset(&h, 0, sizeof h);
    bad = bad ? bad
              : s->lib.preference_set(preference, PREFERENCE_WORK_BYTES, &p->of.work_bytes,
                                      sizeof p->of.work_bytes);
    for (int i = 0; i < 4 && !bad; i++)
        bad = s->lib.preference_set(preference, PREFERENCE_ALIGN_A + i, &alignment,
                                    sizeof alignment);
    bad =
        bad ? bad
            : s->lib.choose(s->lt, p->desc, p->a, p->b, p->d, p->d, preference, 1, &h, &found);
    if (preference)
        s->lib.preference_free(preference);
    if (!bad && (!found || h.state))
        bad = h.state ? h.state : -1;
    memcpy(p->algo, h.algo, sizeof p->algo);
    return bad;
}

/* The plan of a shape, from the last PLANS ones. */
enum device_status plan_of(void *self, struct gemm_state *s, const struct gemm_args *a,
                           struct plan **out)
{
    const struct gemm_args of = shape_of(a);

    for (uint32_t i = 0; i < s->n_plans; i++)
        if (describes(&s->plans[i], &of) && s->plans[i].biased == (a->bias != NULL)) {
            *out = &s->plans[i];
            return DEVICE_OK;
        }
    struct plan *p = &s->plans[s->next];
    s->next = (s->next + 1) % PLANS;
    s->n_plans += s->n_plans < PLANS;
    drop(s, p);
    p->of = of;
    p->biased = a->bias != NULL;
    int bad = describe(&s->lib, p);
    if (!bad && p->biased) /* its alignment matters to the choice */
        bad = s->lib.desc_set(p->desc, DESC_BIAS, &a->bias, sizeof a->bias);
    bad = bad ? bad : choose(s, p);
    *out = p;
    if (!bad)
        return DEVICE_OK;
    drop(s, p);
    return refused(self, DEVICE_UNSUPPORTED, "no algorithm for this product", bad);
}

} /* namespace */

void cuda_gemm_close(void *state)
{
    struct gemm_state *s = static_cast<struct gemm_state *>(state);

    if (!s)
        return;
    for (uint32_t i = 0; i < s->n_plans; i++)
        drop(s, &s->plans[i]);
    if (s->lt)
        s->lib.destroy(s->lt);
    if (s->lib.handle)
        dlclose(s->lib.handle);
    free(s);
}

LAUNCHER(gemm)
{
    const struct gemm_args *a = static_cast<const struct gemm_args *>(args);
    const float one = 1.0f, zero = 0.0f;
    struct gemm_state *s = NULL;
    struct plan *p = NULL;
    enum device_status status = opened(self, &s);
    int bad = 0;

    if (status == DEVICE_OK)
        status = plan_of(self, s, a, &p);
    if (status != DEVICE_OK)
        return status;
    if (p->biased)
        bad = s->lib.desc_set(p->desc, DESC_BIAS, &a->bias, sizeof a->bias);
    if (!bad)
        bad = s->lib.multiply(s->lt, p->desc, &one, a->w, p->a, a->x, p->b, &zero, a->out, p->d,
                              a->out, p->d, p->algo, a->work, a->work_bytes, cuda_stream(self));
    return bad ? refused(self, DEVICE_FAULT, "a product failed", bad) : DEVICE_OK;
}
