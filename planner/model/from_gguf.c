/* A GGUF file becomes a model: the keys give what tensors cannot say (heads, windows, top_k),
 * the tensors give the rest. Neither the file's type label nor its name is used. */
#include "planner/model/from_gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/ck.h"
#include "planner/model/family.h"
#include "planner/model/gguf_read.h"
#include "planner/model/inline.h"
#include "planner/model/weights.h"

/* --- keys and shapes ------------------------------------------------------------------------
 */

static void refuse(struct gguf_reader *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void refuse(struct gguf_reader *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    diag_add(r->d, DIAG_INPUT, r->at, "%s", arena_vprintf(r->a, fmt, ap));
    va_end(ap);
    r->ok = false;
}

static const struct gguf_pair *key_of(struct gguf_reader *r, const char *name)
{
    return gguf_find(r->g->parts, arena_printf(r->a, "%s.%s", r->arch_name, name));
}

bool gguf_has(struct gguf_reader *r, const char *name)
{
    return key_of(r, name) != NULL;
}

uint32_t gguf_number(struct gguf_reader *r, const char *name, uint32_t i, uint32_t fallback)
{
    const struct gguf_pair *p = key_of(r, name);

    if (!p)
        return fallback;
    if (!p->items) {
        refuse(r, "'%s' must be a whole number, or a list of at most %d of them", p->key,
               GGUF_ITEMS_MAX);
        return fallback;
    }
    if (p->list && i >= p->n) {
        refuse(r, "'%s' has %" PRIu64 " items, layer %" PRIu32 " needs one more", p->key, p->n,
               i + 1);
        return fallback;
    }
    if (p->items[p->list ? i : 0] > GGUF_NUMBER_MAX) {
        refuse(r, "'%s' must be between 0 and %d, found %" PRId64, p->key, GGUF_NUMBER_MAX,
               (int64_t)p->items[p->list ? i : 0]);
        return fallback;
    }
    return (uint32_t)p->items[p->list ? i : 0];
}

static int against_name(const void *key, const void *item)
{
    return strcmp(key, (*(const struct gguf_tensor *const *)item)->name);
}

const struct gguf_tensor *gguf_tensor(struct gguf_reader *r, int64_t i, const char *name)
{
    const struct gguf_model *g = r->g;
    const struct gguf_tensor *const *found;
    char full[128];

    if (i < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "blk.%" PRId64 ".%s", i, name);
    found = bsearch(full, g->tensors, g->n_tensors, sizeof *g->tensors, against_name);
    return found ? *found : NULL;
}

uint32_t gguf_dim(struct gguf_reader *r, int64_t i, const char *name, size_t dim)
{
    const struct gguf_tensor *t = gguf_tensor(r, i, name);

    if (!t)
        return 0;
    if (t->dims[dim] > GGUF_NUMBER_MAX) {
        refuse(r, "tensor '%s' is %" PRIu64 " wide, at most %d is allowed", t->name,
               t->dims[dim], GGUF_NUMBER_MAX);
        return 0;
    }
    return (uint32_t)t->dims[dim];
}

static const char *text_of(struct gguf_reader *r, const char *key)
{
    const struct gguf_pair *p = gguf_find(r->g->parts, key);

    return p && p->text && *p->text ? p->text : NULL;
}

/* --- what is refused as a whole -------------------------------------------------------------
 */

static bool find_arch(struct gguf_reader *r)
{
    static const struct gguf_arch plain = {.name = ""};
    const char *type = text_of(r, "general.type");

    r->arch_name = text_of(r, "general.architecture");
    if (type && strcmp(type, "mmproj") == 0)
        refuse(r, "is the projector of a vision model: name the model's file");
    else if (type && strcmp(type, "adapter") == 0)
        refuse(r, "is an adapter: name the file of the model it belongs to");
    else if (!r->arch_name)
        refuse(r, "has no general.architecture: it is no model");
    if (!r->ok)
        return false;
    r->arch = gguf_arch_find(r->arch_name);
    r->arch = r->arch ? r->arch : &plain;
    if (r->arch->refused)
        refuse(r, "architecture '%s' cannot be planned: %s", r->arch_name, r->arch->refused);
    else if (gguf_has(r, "pooling_type") && gguf_number(r, "attention.causal", 0, 1) == 0)
        refuse(r,
               "architecture '%s' cannot be planned: it is an encoder and keeps no K/V cache",
               r->arch_name);
    else if (r->arch == &plain)
        diag_add(r->d, DIAG_WARN, r->at,
                 "architecture '%s' is not known here: its layers are taken to attend to the "
                 "whole context",
                 r->arch_name);
    return r->ok;
}

/* --- the whole ------------------------------------------------------------------------------
 */

/* "dir/Name-Q4_0-00001-of-00002.gguf" -> "Name-Q4_0". */
static const char *name_of_file(struct arena *a, const char *file)
{
    const char *slash = strrchr(file, '/'), *start = slash ? slash + 1 : file;
    const char *dot = strrchr(start, '.'), *mark = strstr(start, "-00001-of-");
    const char *end = mark ? mark : dot ? dot : start + strlen(start);

    return arena_strndup(a, start, (size_t)(end - start));
}

static bool read_size(struct gguf_reader *r)
{
    struct model *m = r->m;
    uint32_t all = gguf_number(r, "block_count", 0, 0);

    m->mtp_layers = gguf_number(r, "nextn_predict_layers", 0, 0);
    m->hidden = gguf_number(r, "embedding_length", 0, 0);
    m->vocab = gguf_dim(r, -1, "token_embd.weight", 1);
    m->max_position = gguf_number(r, "context_length", 0, 0);
    if (!r->ok)
        return false;
    if (all == 0 || m->mtp_layers >= all || all > MODEL_LAYERS_MAX)
        refuse(r,
               "'%s.block_count' must be between 1 and %d, without %" PRIu32
               " of multi-token prediction, found %" PRIu32,
               r->arch_name, MODEL_LAYERS_MAX, m->mtp_layers, all);
    if (m->hidden == 0)
        refuse(r, "'%s.embedding_length' must be given and not be 0", r->arch_name);
    if (m->vocab == 0)
        refuse(r, "has no tensor 'token_embd.weight'");
    m->n_layers = all - m->mtp_layers;
    return r->ok;
}

static void read_outside(struct gguf_reader *r)
{
    struct model *m = r->m;

    m->tied = !gguf_tensor(r, -1, "output.weight");
    m->head_bias = gguf_tensor(r, -1, "output.bias") != NULL;
    m->final_norms = gguf_dim(r, -1, "output_norm.weight", 0) == m->hidden ||
                     gguf_dim(r, -1, "token_embd_norm.weight", 0) == m->hidden;
    m->norm = gguf_tensor(r, -1, "output_norm.bias") ? NORM_LAYER : NORM_RMS;
    m->position_rows = gguf_dim(r, -1, "position_embd.weight", 1);
    if (gguf_tensor(r, -1, "per_layer_token_embd.weight"))
        m->embed_params_extra = gguf_tensor(r, -1, "per_layer_token_embd.weight")->n_elems;
}

/* The format of a table outside the layers, unless it is that of the rest. */
static const struct weight_format *format_of(struct gguf_reader *r, const char *name)
{
    const struct gguf_tensor *x = gguf_tensor(r, -1, name);
    struct ggml_type t;

    return x && ggml_type_find(x->type, &t) && t.format != r->m->quant.format ? t.format : NULL;
}

/* The format most bytes of the layers' matrices are in, and the float type that comes first
 * among the others. */
static void read_formats(struct gguf_reader *r)
{
    uint64_t bytes[64] = {0}, best = 0;
    struct ggml_type t;

    for (size_t i = 0; i < r->g->n_tensors; i++) {
        const struct gguf_tensor *x = r->g->tensors[i];

        if (x->n_dims > 1 && strncmp(x->name, "blk.", 4) == 0 && ggml_type_find(x->type, &t) &&
            t.format)
            bytes[t.id] += x->n_elems / t.block_elems * t.block_bytes; /* within the files */
    }
    r->m->dtype = "fp16";
    for (uint32_t id = 0; id < 64; id++) {
        if (bytes[id] <= best || !ggml_type_find(id, &t))
            continue;
        best = bytes[id];
        r->m->quant = (struct quant){0};
        if (t.block_elems > 1)
            r->m->quant = (struct quant){
                .format = t.format, .method = "gguf", .parts = (1u << N_PARTS) - 1};
        else
            r->m->dtype = t.format->name;
    }
    /* in fp32 stand the norms and a few small matrices; llama.cpp computes in halves beside
     * them */
    if (!r->m->quant.format)
        return;
    r->m->dtype = "fp16";
    r->m->quant.embed = format_of(r, "token_embd.weight");
    r->m->quant.head = format_of(r, r->m->tied ? "token_embd.weight" : "output.weight");
}

/* --- what is left over ----------------------------------------------------------------------
 */

static bool is_mtp_layer(const struct gguf_reader *r, const char *name)
{
    uint64_t layer = 0;

    if (strncmp(name, "blk.", 4) != 0)
        return false;
    for (name += 4; *name >= '0' && *name <= '9' && layer < GGUF_NUMBER_MAX; name++)
        layer = layer * 10 + (uint64_t)(*name - '0');
    return layer >= r->m->n_layers;
}

/* The layer a tensor belongs to, or UINT32_MAX. */
static uint32_t layer_of(const struct gguf_reader *r, const char *name)
{
    uint32_t layer = 0;

    if (strncmp(name, "blk.", 4) != 0 || is_mtp_layer(r, name))
        return UINT32_MAX;
    for (name += 4; *name >= '0' && *name <= '9'; name++)
        layer = layer * 10 + (uint32_t)(*name - '0');
    return layer;
}

static uint64_t layer_params(const struct model *m, uint32_t i, struct ck *ck)
{
    struct tensor t[LAYER_TENSORS_MAX];
    size_t n = weights_layer(m, &m->layers[i], m->layers[i].attn.kv_source == i, t);
    uint64_t sum = 0;

    for (size_t k = 0; k < n; k++)
        sum = ck_add(ck, sum, t[k].tied ? 0 : ck_prod(ck, t[k].out, t[k].in, t[k].copies));
    return sum;
}

static uint64_t outside_params(const struct model *m, struct ck *ck)
{
    struct tensor t[MODEL_TENSORS_MAX];
    uint64_t sum = 0;

    for (size_t k = weights_outside(m, t); k > 0; k--)
        sum = ck_add(ck, sum, t[k - 1].tied ? 0 : ck_mul(ck, t[k - 1].out, t[k - 1].in));
    return sum;
}

/* A rest of many times the hidden size is matrices, a smaller one is vectors. */
static void put_rest(const struct model *m, uint64_t rest, uint64_t *vectors,
                     uint64_t *matrices)
{
    enum { VECTORS = 64 };

    *(rest > (uint64_t)m->hidden * VECTORS ? matrices : vectors) += rest;
}

/* Elements that the known parts do not have become other parameters, so that the counts are
 * those of the file. */
static void count_rest(struct gguf_reader *r)
{
    struct model *m = r->m;
    uint64_t *held = ARENA_NEW(r->a, uint64_t, m->n_layers), outside = 0, missing = 0, n;
    struct ck ck = {false};

    for (size_t i = 0; i < r->g->n_tensors; i++) {
        const struct gguf_tensor *t = r->g->tensors[i];
        uint32_t layer = layer_of(r, t->name);

        if (layer < m->n_layers)
            held[layer] = ck_add(&ck, held[layer], t->n_elems);
        else if (strncmp(t->name, "blk.", 4) != 0)
            outside = ck_add(&ck, outside, t->n_elems);
    }
    for (uint32_t i = 0; i < m->n_layers; i++) {
        n = layer_params(m, i, &ck);
        if (held[i] > n)
            put_rest(m, held[i] - n, &m->layers[i].vector_params, &m->layers[i].matrix_params);
        else
            missing = ck_add(&ck, missing, n - held[i]);
    }
    n = outside_params(m, &ck);
    if (outside > n)
        put_rest(m, outside - n, &m->vector_params_extra, &m->matrix_params_extra);
    else
        missing = ck_add(&ck, missing, n - outside);
    if (ck.over)
        refuse(r, "the parameter count overflows 64 bits");
    else if (missing)
        diag_add(r->d, DIAG_WARN, r->at,
                 "its keys give %" PRIu64 " parameters more than its tensors hold", missing);
}

static uint64_t mtp_bytes(const struct gguf_reader *r)
{
    uint64_t sum = 0;
    struct ggml_type t;

    for (size_t i = 0; i < r->g->n_tensors; i++) {
        const struct gguf_tensor *x = r->g->tensors[i];

        if (is_mtp_layer(r, x->name) && ggml_type_find(x->type, &t))
            sum += x->n_elems / t.block_elems * t.block_bytes; /* within the files */
    }
    return sum;
}

static void note_weights(struct gguf_reader *r)
{
    const char *parts =
        r->g->n_parts > 1 ? arena_printf(r->a, "%zu files", r->g->n_parts) : "the file";
    uint64_t mtp = mtp_bytes(r);

    r->m->weights_bytes = r->g->weights_bytes - mtp;
    r->m->weights_measured = true;
    diag_add(r->d, DIAG_NOTE, r->at,
             "%zu tensors in %s hold %" PRIu64 " bytes of weights, most of them %s%s",
             r->g->n_tensors, parts, r->m->weights_bytes,
             r->m->quant.format ? r->m->quant.format->name : r->m->dtype,
             mtp ? arena_printf(r->a, " (without %" PRIu64 " of multi-token prediction)", mtp)
                 : "");
}

static void read_layers(struct gguf_reader *r)
{
    struct model *m = r->m;

    m->layers = ARENA_NEW(r->a, struct layer, m->n_layers);
    for (uint32_t i = 0; i < m->n_layers && r->ok; i++) {
        gguf_read_layer(r, i);
        if (r->ok)
            layer_settle(&m->layers[i], m->hidden, i);
    }
    if (!r->ok)
        return;
    gguf_share_kv(r);
    if (gguf_has(r, "attention.kv_lora_rank") && !gguf_has(r, "attention.key_length_mla"))
        diag_add(r->d, DIAG_NOTE, r->at,
                 "an older file without the keys of absorbed MLA: llama.cpp keeps the expanded "
                 "heads in its cache");
    if (m->mtp_layers)
        diag_add(r->d, DIAG_NOTE, r->at,
                 "%" PRIu32 " multi-token-prediction layers of the file are not counted",
                 m->mtp_layers);
}

bool model_from_gguf(struct arena *a, struct store *s, const char *file, struct diag *d,
                     struct model *out)
{
    struct gguf_model g;
    struct gguf_reader r = {.a = a, .d = d, .g = &g, .m = out, .ok = true};
    const char *name;
    const struct family *f;

    *out = inline_model();
    if (!gguf_open_model(a, s, file, d, &g))
        return false;
    r.at = out->at = (struct loc){.file = g.parts->name};
    if (!find_arch(&r) || !read_size(&r))
        return false;
    name = text_of(&r, "general.name");
    out->name = name ? name : name_of_file(a, file);
    out->model_type = r.arch->model_type ? r.arch->model_type : r.arch_name;
    f = family_find(out->model_type);
    out->family = f ? f->name : "gguf";
    read_outside(&r);
    read_layers(&r);
    if (!r.ok)
        return false;
    read_formats(&r);
    count_rest(&r);
    if (!r.ok)
        return false;
    note_weights(&r);
    return model_check(out, d);
}
