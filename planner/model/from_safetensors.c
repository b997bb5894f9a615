/* Weight bytes of a checkpoint folder or repository by its safetensors headers. What engines do
 * not load is told apart: layers for multi-token prediction, an lm_head that is tied to the
 * embedding all the same, and buffers such as rotary_emb.inv_freq.
 *
 * source: huggingface/transformers src/transformers/modeling_utils.py (index, tied keys,
 * _keys_to_ignore_on_load_unexpected); vLLM model_executor/models (skipping of spec layers). */
#include "planner/model/from_safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "planner/base/ck.h"
#include "planner/doc/safetensors.h"
#include "planner/model/weights.h"

#define INDEX "model.safetensors.index.json"
#define SINGLE "model.safetensors"

enum { PART_DIGITS = 5 };

/* --- names of parts ------------------------------------------------------------------------
 */

static bool read_digits(const char *s, uint32_t *v)
{
    *v = 0;
    for (int i = 0; i < PART_DIGITS; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        *v = *v * 10 + (uint32_t)(s[i] - '0');
    }
    return true;
}

/* The "-00001-of-00005" before the last dot. */
static const char *part_mark(const char *file, uint32_t *part, uint32_t *n)
{
    static const char of[] = "-of-";
    const size_t len = 1 + PART_DIGITS + (sizeof of - 1) + PART_DIGITS;
    const char *dot = strrchr(file, '.'), *p;

    if (!dot || (size_t)(dot - file) <= len)
        return NULL;
    p = dot - len;
    if (*p != '-' || !read_digits(p + 1, part) ||
        memcmp(p + 1 + PART_DIGITS, of, sizeof of - 1) != 0 ||
        !read_digits(dot - PART_DIGITS, n) || *part == 0 || *part > *n)
        return NULL;
    return p;
}

bool shard_count(const char *file, uint32_t *n)
{
    uint32_t part;

    return part_mark(file, &part, n) != NULL;
}

const char *shard_name(struct arena *a, const char *file, uint32_t i)
{
    uint32_t part, n;
    const char *mark = part_mark(file, &part, &n);

    if (!mark)
        return file;
    return arena_printf(a, "%.*s-%05" PRIu32 "-of-%05" PRIu32 "%s", (int)(mark - file), file, i,
                        n, strrchr(file, '.'));
}

/* --- sums ----------------------------------------------------------------------------------
 */

struct reader {
    struct arena *a;
    struct store *s;
    const struct model *m;
    struct diag *d;
    struct checkpoint *out;
    struct ck ck;
};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

/* "model.layers.61.": layers behind the last one that the config counts. */
static bool is_mtp(const struct model *m, const char *name)
{
    const char *p = strstr(name, "layers.");
    uint64_t layer = 0;
    size_t digits = 0;

    if (strncmp(name, "mtp.", 4) == 0 || strncmp(name, "model.mtp.", 10) == 0)
        return true;
    if (!m->mtp_layers || !p)
        return false;
    for (p += strlen("layers."); p[digits] >= '0' && p[digits] <= '9' && digits < 9; digits++)
        layer = layer * 10 + (uint64_t)(p[digits] - '0');
    return digits && p[digits] == '.' && layer >= m->n_layers;
}

static void add_tensor(struct reader *r, const struct safetensor *t)
{
    struct checkpoint *c = r->out;
    uint64_t bytes = t->end - t->begin, *to = &c->loaded_bytes;

    if (is_mtp(r->m, t->name))
        to = &c->mtp_bytes;
    else if (r->m->tied && ends_with(t->name, "lm_head.weight"))
        to = &c->tied_bytes;
    else if (ends_with(t->name, ".inv_freq") || ends_with(t->name, ".masked_bias") ||
             ends_with(t->name, ".attn.bias") || /* GPT-2's mask */
             (ends_with(t->name, ".attention.bias") && t->bits == 8))
        to = &c->buffer_bytes;
    *to = ck_add(&r->ck, *to, bytes);
    c->stored_bytes = ck_add(&r->ck, c->stored_bytes, bytes);
    c->n_tensors++;
}

static enum store_answer add_file(struct reader *r, const char *file)
{
    struct source src;
    struct safetensors t;
    enum store_answer answer = r->s->open(r->s, r->a, file, r->d, &src);
    bool ok;

    if (answer != STORE_FOUND)
        return answer;
    ok = safetensors_read(r->a, &src, r->d, &t);
    source_close(&src);
    for (size_t i = 0; ok && i < t.n; i++)
        add_tensor(r, &t.v[i]);
    r->out->n_files++;
    return ok ? STORE_FOUND : STORE_FAILED;
}

static enum store_answer missing(struct reader *r, const char *file)
{
    diag_add(r->d, DIAG_WARN, (struct loc){.file = r->s->name},
             "'%s' is not there: the weights are counted by the config's shapes", file);
    return STORE_ABSENT;
}

static enum store_answer add_indexed(struct reader *r, const char *text, size_t n,
                                     const char *name)
{
    struct safetensors_index x;

    if (!safetensors_read_index(r->a, name, text, n, r->d, &x))
        return STORE_FAILED;
    for (size_t i = 0; i < x.n_files; i++) {
        enum store_answer answer = add_file(r, x.files[i]);

        if (answer != STORE_FOUND)
            return answer == STORE_ABSENT ? missing(r, x.files[i]) : answer;
    }
    if (r->out->n_tensors != x.n_tensors)
        diag_add(r->d, DIAG_WARN, (struct loc){.file = name},
                 "lists %zu tensors, its files hold %zu", x.n_tensors, r->out->n_tensors);
    return STORE_FOUND;
}

static enum store_answer add_parts(struct reader *r, const char *file)
{
    uint32_t n = 1;
    enum store_answer answer = STORE_FOUND;

    if (!shard_count(file, &n))
        return add_file(r, file);
    for (uint32_t i = 1; i <= n && answer == STORE_FOUND; i++) {
        const char *part = shard_name(r->a, file, i);

        answer = i > SAFETENSORS_FILES_MAX ? STORE_ABSENT : add_file(r, part);
        if (answer == STORE_ABSENT)
            return missing(r, part);
    }
    return answer;
}

enum store_answer checkpoint_read(struct arena *a, struct store *s, const char *file,
                                  const struct model *m, struct diag *d, struct checkpoint *out)
{
    struct reader r = {.a = a, .s = s, .m = m, .d = d, .out = out};
    enum store_answer answer;
    char *text;
    size_t n;

    *out = (struct checkpoint){0};
    if (file) {
        answer = add_parts(&r, file);
    } else {
        answer = store_text(s, a, INDEX, SAFETENSORS_INDEX_MAX, d, &text, &n);
        answer = answer == STORE_FOUND
                     ? add_indexed(&r, text, n, arena_printf(a, "%s/" INDEX, s->name))
                 : answer == STORE_ABSENT ? add_file(&r, SINGLE)
                                          : answer;
    }
    if (r.ck.over) { /* each file is bounded by its size, their sum is not */
        diag_add(d, DIAG_INPUT, (struct loc){.file = s->name},
                 "the weights take more bytes than 64 bits can count");
        return STORE_FAILED;
    }
    return answer;
}

/* --- laid over a model ---------------------------------------------------------------------
 */

uint64_t model_table_bytes(const struct model *m, struct ck *ck)
{
    static const struct shard one = {1, 1, 1};
    struct tensor t[LAYER_TENSORS_MAX];
    uint64_t sum = 0;

    for (uint32_t i = 0; i < m->n_layers; i++) {
        bool owns = m->layers[i].attn.kv_source == i;
        size_t n = weights_layer(m, &m->layers[i], owns, t);

        for (size_t k = 0; k < n; k++)
            sum = ck_add(ck, sum,
                         weights_tensor_bytes(&t[k], weights_format_of(m, &t[k], (int)i, NULL),
                                              one, ck));
    }
    for (size_t k = weights_outside(m, t); k > 0; k--)
        sum = ck_add(ck, sum,
                     weights_tensor_bytes(&t[k - 1], weights_format_of(m, &t[k - 1], -1, NULL),
                                          one, ck));
    return sum;
}

/* " (without 3,145,728 of multi-token prediction, ...)", or "". */
static const char *left_out(struct arena *a, const struct checkpoint *c)
{
    const struct {
        uint64_t bytes;
        const char *what;
    } parts[] = {{c->mtp_bytes, "multi-token prediction"},
                 {c->tied_bytes, "an lm_head that is tied"},
                 {c->buffer_bytes, "buffers that are not loaded"}};
    const char *text = "", *before = " (without ";

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!parts[i].bytes)
            continue;
        text = arena_printf(a, "%s%s%" PRIu64 " of %s", text, before, parts[i].bytes,
                            parts[i].what);
        before = ", ";
    }
    return *text ? arena_printf(a, "%s)", text) : "";
}

bool model_weights_from_safetensors(struct arena *a, struct store *s, const char *file,
                                    struct diag *d, struct model *m, bool *found)
{
    struct loc at = {.file = s->name};
    struct checkpoint c;
    struct ck ck = {false};
    enum store_answer answer = checkpoint_read(a, s, file, m, d, &c);
    uint64_t table = model_table_bytes(m, &ck);

    *found = answer == STORE_FOUND;
    if (answer != STORE_FOUND)
        return answer == STORE_ABSENT;
    if (ck.over) /* model_check says so */
        return true;
    if (c.loaded_bytes == 0)
        return diag_add(d, DIAG_INPUT, at, "its safetensors files hold no weights");
    if (c.loaded_bytes == table)
        return diag_add(d, DIAG_NOTE, at,
                        "%zu safetensors file%s %" PRIu64
                        " bytes of weights%s, as the config's shapes give",
                        c.n_files, c.n_files == 1 ? " holds" : "s hold", table,
                        left_out(a, &c));
    m->weights_bytes = c.loaded_bytes;
    m->weights_measured = true;
    return diag_add(d, DIAG_NOTE, at,
                    "%zu safetensors file%s %" PRIu64
                    " bytes of weights%s; the config's shapes give %" PRIu64
                    "; the files count",
                    c.n_files, c.n_files == 1 ? " holds" : "s hold", c.loaded_bytes,
                    left_out(a, &c), table);
}
