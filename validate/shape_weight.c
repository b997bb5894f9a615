/* How each tensor lies in the decoder's memory: 16 bits for cuBLASLt's products, fp32 vectors,
 * or one of the stored kinds of kernels/weight.h, in as many bytes as the planner says. */
#include <string.h>

#include "validate/shape_in.h"

enum { ALIGN_BYTES = 16 };

/* The kind of a format of the planner's table; its groups, zeros and order are the table's. */
static bool kind_of(const struct weight_format *f, enum weight_kind *out)
{
    static const struct {
        const char *name;
        enum weight_kind kind;
    } kinds[] = {
        {"fp32", WEIGHT_FP32},
        {"fp8", WEIGHT_FP8},
        {"fp8_channel", WEIGHT_FP8},
        {"fp8_block", WEIGHT_FP8_BLOCK},
        {"int8", WEIGHT_INT8},
        {"bnb_int8", WEIGHT_INT8},
        {"int8_g128", WEIGHT_INT8_GROUP},
        {"gptq_int8", WEIGHT_INT8_GROUP},
        {"gptq_int8_g32", WEIGHT_INT8_GROUP},
        {"q8_0", WEIGHT_INT8_GROUP},
        {"int4", WEIGHT_INT4_GROUP},
        {"int4_g32", WEIGHT_INT4_GROUP},
        {"int4_g64", WEIGHT_INT4_GROUP},
        {"int4_channel", WEIGHT_INT4_GROUP},
        {"awq", WEIGHT_INT4_GROUP},
        {"awq_g64", WEIGHT_INT4_GROUP},
        {"awq_g32", WEIGHT_INT4_GROUP},
        {"gptq", WEIGHT_INT4_GROUP},
        {"gptq_g64", WEIGHT_INT4_GROUP},
        {"gptq_g32", WEIGHT_INT4_GROUP},
        {"q4_0", WEIGHT_INT4_GROUP},
        {"mxfp4", WEIGHT_MXFP4},
        {"nvfp4", WEIGHT_NVFP4},
        {"nf4", WEIGHT_NF4},
        {"q4_k", WEIGHT_Q4_K},
        {"q5_k", WEIGHT_Q5_K},
        {"q6_k", WEIGHT_Q6_K},
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(f->name, kinds[i].name)) {
            *out = kinds[i].kind;
            return true;
        }
    return false;
}

static bool is_plain(const struct weight_format *f, uint32_t bytes)
{
    return f->block_elems == 1 && f->block_bytes == bytes && !f->scale_rows;
}

static struct weight_view view_of(const struct weight_format *f, const struct tensor *t,
                                  enum weight_kind kind)
{
    struct weight_view w = {.kind = kind,
                            .outs = (uint32_t)t->out,
                            .in = (uint32_t)t->in,
                            .one_scale = kind == WEIGHT_FP8 && f->scale_rows == UINT32_MAX,
                            .zeroed = f->zero_bits != 0,
                            .ordered = f->input_bytes != 0};

    if (kind == WEIGHT_INT8_GROUP || kind == WEIGHT_INT4_GROUP)
        w.group = !f->scale_rows ? f->block_elems : f->scale_cols;
    return w;
}

const char *shape_stores(struct arena *a, const struct tensor *t, const struct weight_format *f,
                         struct shape_tensor *out)
{
    enum weight_kind kind = WEIGHT_FP32;
    uint32_t elems = f->block_elems > 32 ? f->block_elems : 32;

    *out = (struct shape_tensor){.t = *t, .format = f, .bytes = 2 * t->out * t->in};
    if (is_plain(f, 2))
        return NULL;
    out->wide = is_plain(f, 4);
    out->bytes = 4 * t->out * t->in;
    if (t->vector)
        return NULL;
    if (!kind_of(f, &kind))
        return arena_printf(a, "weights in %s: no kernel reads them", f->name);
    if (t->in % elems)
        return arena_printf(a, "weights in %s: rows of a multiple of %u elements", f->name,
                            elems);
    out->stored = true;
    out->view = view_of(f, t, kind);
    if (t->part == PART_EMBED && !out->wide && !weight_rows_has(&out->view))
        return arena_printf(a, "an embedding in %s is not looked up", f->name);
    out->bytes = weight_bytes(&out->view);
    return NULL;
}

uint64_t shape_aligned(uint64_t bytes, struct ck *ck)
{
    return ck_mul(ck, ck_ceil_div(bytes, ALIGN_BYTES), ALIGN_BYTES);
}
