/* GGUF files with types: the table of ggml ids, the parts of a split model, and the checks of
 * tensor sizes and places that need both. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/ck.h"
#include "planner/model/from_gguf.h"
#include "planner/model/from_safetensors.h"

enum { PARTS_MAX = 1024 };

/* source: ggml.h (enum ggml_type) of whisper.cpp 4834a2327; the blocks are those of quant.c. */
static const struct {
    uint32_t id;
    const char *name, *format; /* format NULL: elements of `bytes` each */
    uint32_t bytes;
} types[] = {
    {0, "f32", "fp32", 0},       {1, "f16", "fp16", 0},         {2, "q4_0", "q4_0", 0},
    {3, "q4_1", "q4_1", 0},      {6, "q5_0", "q5_0", 0},        {7, "q5_1", "q5_1", 0},
    {8, "q8_0", "q8_0", 0},      {9, "q8_1", "q8_1", 0},        {10, "q2_K", "q2_k", 0},
    {11, "q3_K", "q3_k", 0},     {12, "q4_K", "q4_k", 0},       {13, "q5_K", "q5_k", 0},
    {14, "q6_K", "q6_k", 0},     {15, "q8_K", "q8_k", 0},       {16, "iq2_xxs", "iq2_xxs", 0},
    {17, "iq2_xs", "iq2_xs", 0}, {18, "iq3_xxs", "iq3_xxs", 0}, {19, "iq1_s", "iq1_s", 0},
    {20, "iq4_nl", "iq4_nl", 0}, {21, "iq3_s", "iq3_s", 0},     {22, "iq2_s", "iq2_s", 0},
    {23, "iq4_xs", "iq4_xs", 0}, {24, "i8", NULL, 1},           {25, "i16", NULL, 2},
    {26, "i32", NULL, 4},        {27, "i64", NULL, 8},          {28, "f64", NULL, 8},
    {29, "iq1_m", "iq1_m", 0},   {30, "bf16", "bf16", 0},       {34, "tq1_0", "tq1_0", 0},
    {35, "tq2_0", "tq2_0", 0},   {39, "mxfp4", "mxfp4", 0},     {40, "nvfp4", "nvfp4_ggml", 0},
    {41, "q1_0", "q1_0", 0},     {42, "q2_0", "q2_0", 0},
};

bool ggml_type_find(uint32_t id, struct ggml_type *out)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const struct weight_format *f = weight_format_find(types[i].format);

        if (types[i].id != id)
            continue;
        *out = (struct ggml_type){id, types[i].name, f ? f->block_elems : 1,
                                  f ? f->block_bytes : types[i].bytes, f};
        return true;
    }
    return false;
}

static struct loc at(const struct gguf *g)
{
    return (struct loc){.file = g->name};
}

/* Adds the bytes of the tensors of one part. */
static bool check_part(const struct gguf *g, struct diag *d, uint64_t *sum)
{
    uint64_t data = g->size_bytes > g->data_at ? g->size_bytes - g->data_at : 0;
    uint64_t next = 0;

    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        struct ggml_type type;
        struct ck ck = {false};
        uint64_t bytes;

        if (!ggml_type_find(t->type, &type))
            return diag_add(d, DIAG_INPUT, at(g),
                            "tensor '%s' is of the unknown ggml type %" PRIu32
                            ": how many bytes it takes is not known",
                            t->name, t->type);
        if (t->dims[0] % type.block_elems != 0)
            return diag_add(d, DIAG_INPUT, at(g),
                            "tensor '%s' has rows of %" PRIu64 " elements, %s needs a multiple "
                            "of %" PRIu32,
                            t->name, t->dims[0], type.name, type.block_elems);
        bytes = ck_mul(&ck, t->n_elems / type.block_elems, type.block_bytes);
        if (!ck.over && t->offset != next)
            return diag_add(d, DIAG_INPUT, at(g),
                            "tensor '%s' is said to start at byte %" PRIu64
                            " of the data, the one before it ends at %" PRIu64,
                            t->name, t->offset, next);
        if (ck.over || t->offset > data || bytes > data - t->offset)
            return diag_add(d, DIAG_INPUT, at(g),
                            "tensor '%s' ends behind the end of the file: it is cut short",
                            t->name);
        next = ck_mul(&ck, ck_ceil_div(t->offset + bytes, g->alignment), g->alignment);
        *sum = ck_add(&ck, *sum, bytes);
        if (ck.over) /* only a server can claim files of such sizes */
            return diag_add(d, DIAG_INPUT, at(g),
                            "the weights take more bytes than 64 bits can count");
    }
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct gguf_tensor *const *)a)->name,
                  (*(const struct gguf_tensor *const *)b)->name);
}

static bool join(struct arena *a, struct diag *d, struct gguf_model *m)
{
    size_t n = 0;

    for (size_t i = 0; i < m->n_parts; i++)
        m->n_tensors += m->parts[i].n_tensors;
    m->tensors = ARENA_NEW(a, const struct gguf_tensor *, m->n_tensors + 1);
    for (size_t i = 0; i < m->n_parts; i++) {
        for (size_t k = 0; k < m->parts[i].n_tensors; k++)
            m->tensors[n++] = &m->parts[i].tensors[k];
    }
    qsort(m->tensors, n, sizeof *m->tensors, by_name);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(m->tensors[i]->name, m->tensors[i - 1]->name) == 0)
            return diag_add(d, DIAG_INPUT, at(m->parts),
                            "the tensor '%s' stands in two of its parts", m->tensors[i]->name);
    }
    return true;
}

static uint64_t key_number(const struct gguf *g, const char *key, uint64_t fallback)
{
    const struct gguf_pair *p = gguf_find(g, key);

    return p && !p->list && p->items ? p->items[0] : fallback;
}

/* What the split keys of the parts say against their names. */
static bool check_split(const struct gguf_model *m, uint32_t named, struct diag *d)
{
    const struct gguf *g = m->parts;
    uint64_t said = key_number(g, "split.count", 0);
    uint64_t tensors = key_number(g, "split.tensors.count", m->n_tensors);

    if (said > 1 && named <= 1)
        return diag_add(d, DIAG_INPUT, at(g),
                        "is one of %" PRIu64
                        " parts, but is not called NAME-00001-of-%05" PRIu64
                        ".gguf: the others cannot be found",
                        said, said);
    if (said && said != named)
        return diag_add(d, DIAG_INPUT, at(g),
                        "its name has %" PRIu32 " parts, its key split.count %" PRIu64, named,
                        said);
    if (tensors != m->n_tensors)
        return diag_add(d, DIAG_INPUT, at(g),
                        "its key split.tensors.count is %" PRIu64 ", the parts hold %zu",
                        tensors, m->n_tensors);
    return true;
}

static bool open_part(struct arena *a, struct store *s, const char *file, struct diag *d,
                      struct gguf *out)
{
    struct source src;
    enum store_answer answer = s->open(s, a, file, d, &src);
    bool ok;

    if (answer == STORE_ABSENT)
        return diag_add(d, DIAG_INPUT, (struct loc){.file = s->name}, "there is no '%s' there",
                        file);
    if (answer != STORE_FOUND)
        return false;
    ok = gguf_read(a, &src, d, out);
    source_close(&src);
    return ok;
}

bool gguf_open_model(struct arena *a, struct store *s, const char *file, struct diag *d,
                     struct gguf_model *out)
{
    uint32_t n = 1;

    *out = (struct gguf_model){0};
    if (!shard_count(file, &n))
        n = 1;
    if (n > PARTS_MAX)
        return diag_add(d, DIAG_INPUT, (struct loc){.file = file},
                        "has %" PRIu32 " parts, at most %d are read", n, PARTS_MAX);
    out->parts = ARENA_NEW(a, struct gguf, n);
    for (out->n_parts = 0; out->n_parts < n; out->n_parts++) {
        struct gguf *g = &out->parts[out->n_parts];

        if (!open_part(a, s, shard_name(a, file, (uint32_t)out->n_parts + 1), d, g) ||
            !check_part(g, d, &out->weights_bytes))
            return false;
    }
    if (!join(a, d, out) || !check_split(out, n, d))
        return false;
    return out->n_tensors || diag_add(d, DIAG_INPUT, at(out->parts), "holds no tensors");
}
