/* A stand-in for libcublasLt.so: the calls that kernels/cuda/gemm.cu makes, with the library's
 * own prototypes, checked against its documentation and done in double precision. What the
 * library would refuse or leave undefined is refused, with a line on stderr.
 *
 * source: cuBLAS 13.0 documentation, section 3 (cublasLt API) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>

#include "tests/ptx/run.h"
#include "tests/ptx/stream.h"

enum { ALGO_MARK = 0x6b76 };

struct desc { /* in the 32 words of cublasLtMatmulDescOpaque_t */
    int compute, scale, trans_a, trans_b, epilogue, bias_type;
    const void *bias;
};

struct layout {      /* in the 8 words of cublasLtMatrixLayoutOpaque_t */
    int type, count; /* of matrices, `step` elements apart */
    uint64_t rows, columns;
    int64_t ld, step;
};

struct preference {
    uint64_t work_bytes;
    uint32_t alignment[4];
};

struct algo { /* in the 8 words of cublasLtMatmulAlgo_t: what the choice was made for */
    uint64_t mark, work_bytes;
    uint32_t alignment[4];
};

static cublasStatus_t refuse(const char *what)
{
    fprintf(stderr, "cublasLt: %s\n", what);
    return CUBLAS_STATUS_INVALID_VALUE;
}

size_t cublasLtGetVersion(void)
{
    return CUBLAS_VERSION;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *lt)
{
    *lt = malloc(1);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t lt)
{
    free(lt);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    struct desc *d = calloc(1, sizeof *d);

    *d = (struct desc){
        (int)compute, (int)scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT,
        -1,           NULL};
    *out = (cublasLtMatmulDesc_t)(void *)d;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t set(void *to, const void *from, size_t bytes, size_t want)
{
    if (bytes != want)
        return refuse("an attribute of another size");
    memcpy(to, from, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t bytes)
{
    struct desc *d = (struct desc *)(void *)desc;

    switch (what) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&d->trans_a, value, bytes, 4);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(&d->trans_b, value, bytes, 4);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&d->epilogue, value, bytes, 4);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return set(&d->bias_type, value, bytes, 4);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&d->bias, value, bytes, 8);
    default: return refuse("an attribute of a product that is not known here");
    }
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    free((void *)desc);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld)
{
    struct layout *l = calloc(1, sizeof *l);

    *l = (struct layout){(int)type, 1, rows, columns, ld, 0};
    *out = (cublasLtMatrixLayout_t)(void *)l;
    return ld < (int64_t)rows ? refuse("columns overlap") : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t what,
                                                const void *value, size_t bytes)
{
    struct layout *l = (struct layout *)(void *)layout;

    switch (what) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return set(&l->count, value, bytes, 4);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return set(&l->step, value, bytes, 8);
    default: return refuse("an attribute of a matrix that is not known here");
    }
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    free((void *)layout);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    struct preference *p = calloc(1, sizeof *p);

    for (int i = 0; i < 4; i++)
        p->alignment[i] = 256;
    *out = (cublasLtMatmulPreference_t)(void *)p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *value, size_t bytes)
{
    struct preference *p = (struct preference *)(void *)preference;
    int i = (int)what - (int)CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;

    if (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        return set(&p->work_bytes, value, bytes, 8);
    if (i >= 0 && i < 4)
        return set(&p->alignment[i], value, bytes, 4);
    return refuse("a preference that is not known here");
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    free((void *)preference);
    return CUBLAS_STATUS_SUCCESS;
}

/* out[columns of x][rows of w] in memory; the library sees all of them turned. */
static const char *mistake(const struct desc *d, const struct layout *a, const struct layout *b,
                           const struct layout *out)
{
    bool half = a->type == CUDA_R_16F || a->type == CUDA_R_16BF;
    bool turned = d->trans_a == CUBLAS_OP_T;

    if (d->compute != CUBLAS_COMPUTE_32F || d->scale != CUDA_R_32F)
        return "sums and scales are fp32";
    if (!half || a->type != b->type || (out->type != a->type && out->type != CUDA_R_32F))
        return "types that the table of supported products lacks";
    if ((!turned && d->trans_a != CUBLAS_OP_N) || d->trans_b != CUBLAS_OP_N)
        return "the first operand may be turned, the second is not";
    if ((turned ? a->rows : a->columns) != b->rows ||
        (turned ? a->columns : a->rows) != out->rows || b->columns != out->columns)
        return "the shapes do not go together";
    if (a->count < 1 || a->count != b->count || a->count != out->count)
        return "the operands are not as many as the results";
    if (d->epilogue == CUBLASLT_EPILOGUE_BIAS && d->bias_type != a->type)
        return "a bias has the type of its operands";
    if (d->epilogue == CUBLASLT_EPILOGUE_BIAS && !d->bias)
        return "a bias without an address";
    return NULL;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t lt, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int asked,
                                              cublasLtMatmulHeuristicResult_t out[], int *found)
{
    const struct preference *p = (const struct preference *)(void *)preference;
    const char *bad = mistake((struct desc *)(void *)desc, (struct layout *)(void *)a,
                              (struct layout *)(void *)b, (struct layout *)(void *)d);
    struct algo algo = {ALGO_MARK, p->work_bytes, {0}};

    (void)lt;
    *found = 0;
    if (bad || asked < 1 || c != d)
        return refuse(bad ? bad : "a choice that is not known here");
    memcpy(algo.alignment, p->alignment, sizeof algo.alignment);
    memset(out, 0, sizeof *out);
    memcpy(&out->algo, &algo, sizeof algo);
    out->workspaceSize = p->work_bytes / 2;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static double number(const void *p, uint64_t i, int type)
{
    uint16_t h;

    memcpy(&h, (const char *)p + 2 * i, sizeof h);
    return (double)(type == CUDA_R_16F ? half_of(h) : float_of((uint64_t)h << 16));
}

static void put(void *p, uint64_t i, int type, double x)
{
    static const struct insn to_half = {.op = OP_CVT, .type = WORD_F16, .from = WORD_F32},
                             to_bf16 = {.op = OP_CVT, .type = WORD_BF16, .from = WORD_F32};
    uint64_t bits = bits_of((float)x);
    uint64_t h = value_of(type == CUDA_R_16F ? &to_half : &to_bf16, &bits);

    if (type == CUDA_R_32F)
        memcpy((char *)p + 4 * i, &bits, 4);
    else
        memcpy((char *)p + 2 * i, &h, 2);
}

static bool is_aligned(const struct algo *algo, const void *a, const void *b, const void *d)
{
    return (uintptr_t)a % algo->alignment[0] == 0 && (uintptr_t)b % algo->alignment[1] == 0 &&
           (uintptr_t)d % algo->alignment[2] == 0 && (uintptr_t)d % algo->alignment[3] == 0;
}

struct asked {
    struct desc e;
    struct layout a, b, d;
    const void *at_a, *at_b;
    void *at_d;
};

static void multiply(const void *state)
{
    const struct asked *s = state;
    const struct desc *e = &s->e;
    bool turned = e->trans_a == CUBLAS_OP_T;
    uint64_t ld = (uint64_t)s->a.ld, per_n = turned ? ld : 1, per_k = turned ? 1 : ld;
    uint64_t all = s->d.rows * s->d.columns * (uint64_t)s->d.count;

    for (uint64_t i = 0; i < all; i++) {
        uint64_t n = i % s->d.rows, r = i / s->d.rows % s->d.columns;
        uint64_t one = i / s->d.rows / s->d.columns;
        uint64_t a = one * (uint64_t)s->a.step + n * per_n;
        uint64_t b = one * (uint64_t)s->b.step + r * (uint64_t)s->b.ld;
        double sum =
            e->epilogue == CUBLASLT_EPILOGUE_BIAS ? number(e->bias, n, e->bias_type) : 0;
        for (uint64_t k = 0; k < s->b.rows; k++)
            sum +=
                number(s->at_a, a + k * per_k, s->a.type) * number(s->at_b, b + k, s->b.type);
        put(s->at_d, one * (uint64_t)s->d.step + r * (uint64_t)s->d.ld + n, s->d.type, sum);
    }
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t lt, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *how,
                              void *work, size_t work_bytes, cudaStream_t stream)
{
    const struct desc *e = (const struct desc *)(void *)desc;
    const struct layout *la = (struct layout *)(void *)a_layout,
                        *lb = (struct layout *)(void *)b_layout,
                        *ld = (struct layout *)(void *)d_layout;
    const char *bad = mistake(e, la, lb, ld);
    struct algo algo;

    (void)lt;
    memcpy(&algo, how, sizeof algo);
    if (!bad && (algo.mark != ALGO_MARK || c != d || c_layout != d_layout))
        bad = "not what the choice was made for";
    if (!bad &&
        (work_bytes < algo.work_bytes / 2 || (work_bytes && !work) || (uintptr_t)work % 256))
        bad = "work memory is missing, too small or not aligned to 256 bytes";
    if (!bad && !is_aligned(&algo, a, b, d))
        bad = "an operand is less aligned than the choice was told";
    if (bad)
        return refuse(bad);
    if (*(const float *)alpha != 1.0f || *(const float *)beta != 0.0f)
        return refuse("scales other than 1 and 0");
    struct asked now = {*e, *la, *lb, *ld, a, b, d};
    stream_ask(stream, multiply, &now, sizeof now);
    return CUBLAS_STATUS_SUCCESS;
}
