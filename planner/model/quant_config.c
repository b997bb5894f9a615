/* quantization_config of a config.json: which format, and which parts of which layers it
 * covers. Methods differ in words only; each reader below picks one row of the table in
 * quant.c. Ignore lists are resolved here, once, into a mask of parts a layer.
 *
 * source: transformers quantization_config classes; compressed-tensors quant_scheme; ModelOpt
 * hf_quant_config. */
#include "planner/model/quant_config.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>

#include "planner/model/weights.h"

enum {
    PARTS_LINEAR = 1u << PART_Q | 1u << PART_K | 1u << PART_V | 1u << PART_O |
                   1u << PART_LATENT | 1u << PART_INDEXER | 1u << PART_STATE | 1u << PART_MLP |
                   1u << PART_EXPERT | 1u << PART_SHARED,
    NAME_BYTES = 192
};

struct reader {
    struct arena *a;
    const struct doc_node *q;
    struct diag *d;
    struct model *m;
    const struct doc_node *ignore;  /* list of modules left alone, or NULL */
    const struct doc_node *targets; /* list of the only modules covered, or NULL */
};

static const char *text_of(const struct doc_node *map, const char *key)
{
    const struct doc_node *n = doc_get(map, key);

    return n && n->kind == DOC_SCALAR && !doc_is_null(n) ? n->text : NULL;
}

static bool is(const char *a, const char *b)
{
    return a && strcmp(a, b) == 0;
}

static bool flag_of(const struct doc_node *map, const char *key)
{
    const char *t = text_of(map, key);

    return is(t, "true") || is(t, "True") || is(t, "1");
}

/* A whole number under `key`; -1 stands for "not there" and for what is no number. */
static int64_t number_of(const struct doc_node *map, const char *key)
{
    const char *t = text_of(map, key);
    int64_t v = 0;

    if (!t || !*t)
        return -1;
    for (; *t; t++) {
        if (*t < '0' || *t > '9' || v > 1000000)
            return -1;
        v = v * 10 + (*t - '0');
    }
    return v;
}

/* ---- ignore lists --------------------------------------------------------------------- */

static const char *strip_prefix(const char *s)
{
    static const char *const prefixes[] = {"model.", "language_model.", "backbone.",
                                           "transformer.", "decoder."};

    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t n = strlen(prefixes[i]);

        if (strncmp(s, prefixes[i], n) == 0)
            return strip_prefix(s + n);
    }
    return s;
}

/* `part` as a run of whole dotted words of `name`. */
static bool has_words(const char *name, const char *part)
{
    size_t n = strlen(part);

    for (const char *p = strstr(name, part); n && p; p = strstr(p + 1, part)) {
        if ((p == name || p[-1] == '.') && (p[n] == 0 || p[n] == '.'))
            return true;
    }
    return false;
}

/* Python's re.match on the usual full names, by a POSIX expression. */
static bool regex_matches(const char *pattern, const char *name)
{
    static const char *const prefixes[] = {"", "model.", "language_model.model.",
                                           "model.language_model.", "backbone."};
    char full[NAME_BYTES], anchored[2 * NAME_BYTES];
    regex_t re;
    bool hit = false;
    size_t k = 0;

    if (strlen(pattern) >= NAME_BYTES)
        return false;
    anchored[k++] = '^';
    anchored[k++] = '(';
    for (const char *p = pattern; *p && k + 8 < sizeof anchored; p++) {
        if (p[0] == '\\' && p[1] == 'd') {
            memcpy(anchored + k, "[0-9]", 5);
            k += 5;
            p++;
        } else {
            anchored[k++] = *p;
        }
    }
    anchored[k++] = ')';
    anchored[k] = 0;
    if (regcomp(&re, anchored, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes && !hit; i++) {
        snprintf(full, sizeof full, "%s%s", prefixes[i], name);
        hit = regexec(&re, full, 0, NULL, 0) == 0;
    }
    regfree(&re);
    return hit;
}

bool quant_ignores(const char *entry, const char *name)
{
    char glob[NAME_BYTES];
    const char *bare;

    if (strncmp(entry, "re:", 3) == 0)
        return regex_matches(entry + 3, name);
    bare = strip_prefix(entry);
    if (!strchr(bare, '*'))
        return has_words(name, bare);
    if (fnmatch(bare, name, 0) == 0)
        return true;
    snprintf(glob, sizeof glob, "%s.*", bare);
    return fnmatch(glob, name, 0) == 0;
}

/* Other spellings of a module: fused projections and the block names of other families. */
static size_t spellings(const char *block, const char *rest, uint32_t layer,
                        char out[8][NAME_BYTES])
{
    static const char *const fused[][2] = {{"q_proj", "qkv_proj"},
                                           {"k_proj", "qkv_proj"},
                                           {"v_proj", "qkv_proj"},
                                           {"gate_proj", "gate_up_proj"},
                                           {"up_proj", "gate_up_proj"}};
    bool mlp = is(block, "mlp");
    const char *blocks[4] = {block, "mixer", mlp ? "feed_forward" : NULL,
                             mlp ? "block_sparse_moe" : NULL};
    size_t n = 0;

    for (size_t i = 0; i < 4; i++) {
        if (blocks[i])
            snprintf(out[n++], NAME_BYTES, "layers.%" PRIu32 ".%s.%s", layer, blocks[i], rest);
    }
    for (size_t i = 0; i < sizeof fused / sizeof *fused; i++) {
        if (is(rest, fused[i][0]))
            snprintf(out[n++], NAME_BYTES, "layers.%" PRIu32 ".%s.%s", layer, block,
                     fused[i][1]);
    }
    return n;
}

static bool listed(const struct doc_node *list, const char *block, const char *rest,
                   uint32_t layer)
{
    char names[8][NAME_BYTES];
    size_t n = spellings(block, rest, layer, names);

    for (const struct doc_node *e = list->first; e; e = e->next) {
        const char *entry = e->key ? e->key : e->kind == DOC_SCALAR ? e->text : "";

        if (is(entry, "Linear"))
            return true;
        for (size_t i = 0; i < n; i++) {
            if (quant_ignores(entry, names[i]))
                return true;
        }
    }
    return false;
}

/* Whether the format covers a tensor of a layer. */
static bool covers(const struct reader *r, const struct tensor *t, uint32_t layer)
{
    char block[32], rest[NAME_BYTES];
    const char *dot = strchr(t->name, '.');
    size_t n = dot ? (size_t)(dot - t->name) : 0;

    if (!dot || n >= sizeof block)
        return false;
    memcpy(block, t->name, n);
    block[n] = 0;
    if (strncmp(dot + 1, "experts.", 8) == 0)
        snprintf(rest, sizeof rest, "experts.0.%s", dot + 9);
    else
        snprintf(rest, sizeof rest, "%s", dot + 1);
    if (r->targets && !listed(r->targets, block, rest, layer))
        return false;
    return !r->ignore || !listed(r->ignore, block, rest, layer);
}

/* The parts a layer has, and which of them the format covers: all tensors of a part, or it is
 * not. */
struct cover {
    uint32_t present, covered;
};

static struct cover layer_cover(const struct reader *r, uint32_t layer)
{
    struct tensor t[LAYER_TENSORS_MAX];
    struct cover c = {0, r->m->quant.parts};
    size_t n = weights_layer(r->m, &r->m->layers[layer], true, t);

    for (size_t i = 0; i < n; i++) {
        uint32_t bit = 1u << t[i].part;

        if (t[i].vector || t[i].plain || !(r->m->quant.parts & bit))
            continue;
        c.present |= bit;
        if (!covers(r, &t[i], layer))
            c.covered &= ~bit;
    }
    c.covered &= c.present;
    return c;
}

static void keep_names(struct reader *r)
{
    struct quant *q = &r->m->quant;
    const char **names;

    if (!r->ignore || !r->ignore->n)
        return;
    names = ARENA_NEW(r->a, const char *, r->ignore->n);
    for (const struct doc_node *e = r->ignore->first; e; e = e->next)
        names[q->n_ignored++] = e->kind == DOC_SCALAR ? e->text : "";
    q->ignored = names;
}

/* One mask for the model where no part is covered in one layer and left alone in another, else
 * one a layer. */
static void resolve(struct reader *r)
{
    struct model *m = r->m;
    uint32_t *masks, on = 0, off = 0;

    keep_names(r);
    if (!r->ignore && !r->targets)
        return;
    masks = ARENA_NEW(r->a, uint32_t, m->n_layers);
    for (uint32_t i = 0; i < m->n_layers; i++) {
        struct cover c = layer_cover(r, i);

        masks[i] = c.covered;
        on |= c.covered;
        off |= c.present & ~c.covered;
    }
    if (off == 0)
        return;
    m->quant.parts = on;
    if (on & off)
        m->quant.layer_parts = masks;
}

/* ---- methods -------------------------------------------------------------------------- */

static bool use(struct reader *r, const char *name)
{
    r->m->quant.format = weight_format_find(name);
    return r->m->quant.format != NULL;
}

static bool bad_bits(struct reader *r, int64_t bits, int64_t group)
{
    return diag_add(r->d, DIAG_INPUT, r->q->at,
                    "%s with %" PRId64 " bits and groups of %" PRId64 " is not known",
                    r->m->quant.method, bits, group);
}

/* fmt names "%s", "%s_g64", ... by group size; 128 has no suffix. */
static bool grouped(struct reader *r, const char *stem, int64_t bits, int64_t group)
{
    char name[40];

    if (group == 128)
        snprintf(name, sizeof name, "%s", stem);
    else
        snprintf(name, sizeof name, "%s_g%" PRId64, stem, group);
    return use(r, name) || bad_bits(r, bits, group);
}

static bool read_gptq(struct reader *r)
{
    int64_t bits = number_of(r->q, "bits"), group = number_of(r->q, "group_size");

    if (bits < 0)
        bits = number_of(r->q, "w_bit");
    if (group < 0)
        return bits == 4 ? use(r, "int4_channel") : bad_bits(r, bits, group);
    if (is(r->m->quant.method, "awq"))
        return bits == 4 ? grouped(r, "awq", bits, group) : bad_bits(r, bits, group);
    return bits == 4   ? grouped(r, "gptq", bits, group)
           : bits == 8 ? grouped(r, "gptq_int8", bits, group)
                       : bad_bits(r, bits, group);
}

/* The weights entry of one config group of compressed-tensors. */
static bool read_scheme(struct reader *r, const struct doc_node *w, bool activations)
{
    int64_t bits = number_of(w, "num_bits"), group = number_of(w, "group_size");
    const char *strategy = text_of(w, "strategy"), *type = text_of(w, "type");
    bool group_wise = is(strategy, "group") || is(strategy, "tensor_group");

    if (is(type, "float") && bits == 8)
        return use(r, is(strategy, "block")     ? "fp8_block"
                      : is(strategy, "channel") ? "fp8_channel"
                                                : "fp8");
    if (is(type, "float") && bits == 4)
        return use(r, group == 32 ? "mxfp4" : "nvfp4");
    if (bits == 8 && (activations || !group_wise))
        return use(r, "int8");
    if (bits == 8)
        return group == 128 ? use(r, "int8_g128") : bad_bits(r, bits, group);
    if (bits == 4)
        return group_wise ? grouped(r, "int4", bits, group) : use(r, "int4_channel");
    return bad_bits(r, bits, group);
}

static bool read_groups(struct reader *r, const struct doc_node *groups)
{
    const struct doc_node *scheme = doc_get(r->q, "kv_cache_scheme");
    const struct weight_format *first = NULL;

    if (scheme && scheme->kind == DOC_MAP && number_of(scheme, "num_bits") == 8)
        r->m->quant.kv_format = is(text_of(scheme, "type"), "float") ? "fp8_e4m3" : "int8";
    if (!groups || groups->kind != DOC_MAP || !groups->first)
        return diag_add(r->d, DIAG_INPUT, r->q->at, "compressed-tensors without config_groups");
    for (const struct doc_node *g = groups->first; g; g = g->next) {
        const struct doc_node *input = doc_get(g, "input_activations");

        if (!read_scheme(r, doc_get(g, "weights"), input && input->kind == DOC_MAP))
            return false;
        if (first && r->m->quant.format != first)
            diag_add(r->d, DIAG_WARN, g->at,
                     "config_groups in several formats: all are counted as %s", first->name);
        first = first ? first : r->m->quant.format;
        r->targets = g == groups->first && !g->next ? doc_get(g, "targets") : NULL;
    }
    r->m->quant.format = first;
    return true;
}

static const char *algo_format(const char *algo)
{
    static const char *const table[][2] = {
        {"FP8", "fp8"},
        {"NVFP4", "nvfp4"},
        {"NVFP4_AWQ", "nvfp4"},
        {"W4A16_AWQ", "awq"},
        {"FP8_PB_WO", "fp8_block"},
        {"FP8_PER_CHANNEL_PER_TOKEN", "fp8_channel"},
        {"MXFP4", "mxfp4"},
        {"W4A8_AWQ", "awq"},
    };

    for (size_t i = 0; algo && i < sizeof table / sizeof *table; i++) {
        if (strcmp(algo, table[i][0]) == 0)
            return table[i][1];
    }
    return NULL;
}

/* MIXED_PRECISION: the algorithm named by most modules stands for all that are listed. */
static const char *mixed(struct reader *r, const struct doc_node *modules)
{
    const char *best = NULL;
    size_t most = 0, kinds = 0;

    for (const struct doc_node *c = modules->first; c; c = c->next) {
        const char *algo = text_of(c, "quant_algo");
        size_t n = 0;

        for (const struct doc_node *o = modules->first; o; o = o->next)
            n += is(text_of(o, "quant_algo"), algo ? algo : "");
        kinds += n < modules->n;
        if (n > most) {
            most = n;
            best = algo;
        }
    }
    if (kinds)
        diag_add(r->d, DIAG_WARN, modules->at,
                 "quantized_layers in several formats: all are counted as %s",
                 best ? best : "?");
    r->targets = modules;
    return best;
}

static bool read_modelopt(struct reader *r)
{
    const struct doc_node *inner = doc_get(r->q, "quantization");
    const struct doc_node *modules;
    const char *algo, *kv;

    if (inner && inner->kind == DOC_MAP)
        r->q = inner;
    modules = doc_get(r->q, "quantized_layers");
    algo = text_of(r->q, "quant_algo");
    if (modules && modules->kind == DOC_MAP)
        algo = mixed(r, modules);
    kv = text_of(r->q, "kv_cache_quant_algo");
    if (kv && strncmp(kv, "FP8", 3) == 0)
        r->m->quant.kv_format = "fp8_e4m3";
    else if (is(kv, "NVFP4"))
        r->m->quant.kv_format = "nvfp4";
    if (!algo && doc_get(r->q, "config_groups"))
        return read_groups(r, doc_get(r->q, "config_groups"));
    if (!algo_format(algo))
        return diag_add(r->d, DIAG_INPUT, r->q->at, "quant_algo '%s' of modelopt is not known",
                        algo ? algo : "");
    return use(r, algo_format(algo));
}

static bool read_method(struct reader *r, const char *method)
{
    if (is(method, "fp8"))
        return use(r, doc_get(r->q, "weight_block_size") ? "fp8_block" : "fp8");
    if (is(method, "fbgemm_fp8"))
        return use(r, "fp8_channel");
    if (is(method, "awq") || is(method, "gptq") || is(method, "auto-round"))
        return read_gptq(r);
    if (is(method, "compressed-tensors"))
        return read_groups(r, doc_get(r->q, "config_groups"));
    if (is(method, "bitsandbytes"))
        return use(r, flag_of(r->q, "load_in_8bit")                ? "bnb_int8"
                      : flag_of(r->q, "bnb_4bit_use_double_quant") ? "nf4_double"
                                                                   : "nf4");
    if (is(method, "mxfp4")) {
        r->m->quant.parts = 1u << PART_EXPERT;
        return use(r, "mxfp4");
    }
    if (strncmp(method, "modelopt", 8) == 0)
        return read_modelopt(r);
    return diag_add(r->d, DIAG_INPUT, r->q->at,
                    "quant_method '%s' is not known (known: awq, auto-round, bitsandbytes, "
                    "compressed-tensors, fbgemm_fp8, fp8, gptq, modelopt, mxfp4)",
                    method);
}

static const struct doc_node *ignore_list(const struct doc_node *q)
{
    static const char *const keys[] = {"ignore", "modules_to_not_convert", "ignored_layers",
                                       "exclude_modules", "llm_int8_skip_modules"};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct doc_node *n = doc_get(q, keys[i]);

        if (n && n->kind == DOC_LIST)
            return n;
    }
    return NULL;
}

bool quant_from_config(struct arena *a, const struct doc_node *q, struct diag *d,
                       struct model *m)
{
    struct reader r = {.a = a, .q = q, .d = d, .m = m};
    const char *method;

    m->quant = (struct quant){0};
    if (!q)
        return true;
    method = text_of(q, "quant_method");
    if (!method)
        method = doc_get(q, "quant_algo") || doc_get(q, "quantization") ? "modelopt" : NULL;
    if (!method)
        return diag_add(d, DIAG_INPUT, q->at, "quantization_config without quant_method");
    m->quant.method = method;
    m->quant.parts = PARTS_LINEAR;
    if (!read_method(&r, method))
        return false;
    r.ignore = ignore_list(r.q);
    resolve(&r);
    return true;
}
