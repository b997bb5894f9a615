/* Putting settings together, and what several servers say alike. */
#include "planner/engine/flags/flags.h"

#include <assert.h>
#include <string.h>

#define GIB ((uint64_t)1 << 30)

/* --- the list ----------------------------------------------------------------------------- */

void flag_text(struct engine_flags *f, enum flag_place place, const char *key, const char *name,
               const char *value)
{
    assert(f->n < FLAGS_MAX);
    f->items[f->n++] = (struct flag){place, name, value, key};
}

void flag_u64(struct engine_flags *f, enum flag_place place, const char *key, const char *name,
              uint64_t value)
{
    if (value)
        flag_text(f, place, key, name,
                  arena_printf(f->arena, "%llu", (unsigned long long)value));
}

void flag_number(struct engine_flags *f, enum flag_place place, const char *key,
                 const char *name, double value)
{
    flag_text(f, place, key, name, arena_printf(f->arena, "%.6g", value));
}

void flag_word(struct engine_flags *f, const char *word)
{
    flag_text(f, FLAG_COMMAND, NULL, word, NULL);
}

void flag_cannot(struct engine_flags *f, const char *key, const char *fmt, ...)
{
    va_list ap;

    assert(f->n_cannot < FLAG_REMARKS_MAX);
    va_start(ap, fmt);
    f->cannot[f->n_cannot++] = (struct flag_refusal){key, arena_vprintf(f->arena, fmt, ap)};
    va_end(ap);
}

void flag_note(struct engine_flags *f, const char *fmt, ...)
{
    va_list ap;

    assert(f->n_notes < FLAG_REMARKS_MAX);
    va_start(ap, fmt);
    f->notes[f->n_notes++] = arena_vprintf(f->arena, fmt, ap);
    va_end(ap);
}

/* --- schemes ------------------------------------------------------------------------------ */

static bool listed(const char *word, const char *const *words)
{
    for (; *words; words++)
        if (!strcmp(*words, word))
            return true;
    return false;
}

void flags_check_schemes(const struct flags_in *in, const char *engine, struct engine_flags *f)
{
    static const char *const shipped[] = {"none", "native", NULL};
    static const char *const heads[] = {"mha", "gqa", "mqa", NULL};
    const struct layout *l = in->in->layout;

    if (l->sharing && !listed(l->sharing, shipped) &&
        (l->retrofit || !listed(l->sharing, heads)))
        flag_cannot(f, "cache.sharing",
                    "%s runs the sharing a model ships with; %s needs a model made for it and "
                    "code of its own",
                    engine, l->sharing);
    if (l->retention && strcmp(l->retention, "none") != 0)
        flag_cannot(f, "cache.eviction", "%s never drops a token that is in view: no %s",
                    engine, l->retention);
    if (in->offload > 0)
        flag_cannot(f, "cache.offload",
                    "%s keeps the cache of running sequences on the GPU; no setting holds %g "
                    "of it in host memory",
                    engine, in->offload);
}

/* --- formats ------------------------------------------------------------------------------ */

const char *flags_cache_format(const struct flags_in *in, const char **v)
{
    const struct layout *l = in->in->layout;

    *v = NULL;
    for (uint32_t i = 0; i < l->n_rows; i++) {
        const struct cache_row *r = &l->rows[i];
        if (!r->readers || (r->stream != STREAM_KV && r->stream != STREAM_LATENT))
            continue;
        if (r->v_dim && strcmp(r->k_format.name, r->v_format.name) != 0)
            *v = r->v_format.name;
        return r->k_format.name;
    }
    return NULL;
}

static const char *plain(const char *format)
{
    static const char *const names[][2] = {
        {"bf16", "bf16"}, {"fp16", "fp16"}, {"f16", "fp16"}, {"fp32", "fp32"}, {"f32", "fp32"}};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(format, names[i][0]))
            return names[i][1];
    return NULL;
}

const char *flags_activation_format(const struct flags_in *in)
{
    const struct weight_format *asked = in->in->asked;
    const char *dtype = in->in->layout->model->dtype;

    if (asked && plain(asked->name))
        return plain(asked->name);
    return dtype && plain(dtype) && !strcmp(plain(dtype), "fp16") ? "fp16" : "bf16";
}

const char *flags_torch_dtype(const char *format)
{
    const char *p = plain(format);

    if (!p)
        return NULL;
    return !strcmp(p, "bf16") ? "bfloat16" : !strcmp(p, "fp16") ? "float16" : "float32";
}

/* Weights: a plain type is --dtype; two kinds are made while loading; the rest is how the
 * checkpoint was made. */
static void put_weights(const struct flags_in *in, struct engine_flags *f)
{
    const struct weight_format *asked = in->in->asked;

    if (!asked)
        return;
    if (plain(asked->name))
        flag_text(f, FLAG_COMMAND, "weights.format", "--dtype", flags_torch_dtype(asked->name));
    else if (!strcmp(asked->name, "fp8"))
        flag_text(f, FLAG_COMMAND, "weights.format", "--quantization", "fp8");
    else if (!strncmp(asked->name, "nf4", 3))
        flag_text(f, FLAG_COMMAND, "weights.format", "--quantization", "bitsandbytes");
    else
        flag_note(
            f, "weights.format %s is a property of the checkpoint: serve one that was made so",
            asked->name);
}

/* A cache in 16 or 32 bits follows the activations. */
static void put_plain_cache(const struct flags_in *in, const char *engine, const char *k,
                            struct engine_flags *f)
{
    const char *follows = flags_activation_format(in);

    if (!strcmp(plain(k), follows))
        return;
    if (!in->in->asked && strcmp(k, "fp32") != 0 && strcmp(k, "f32") != 0)
        flag_text(f, FLAG_COMMAND, "cache.format", "--dtype", flags_torch_dtype(k));
    else
        flag_cannot(f, "cache.format",
                    "%s's unquantized cache is in the type of its activations, "
                    "%s, not in %s",
                    engine, follows, k);
}

void flags_formats(const struct flags_in *in, const char *engine, const char *const *types,
                   struct engine_flags *f)
{
    const char *v, *k = flags_cache_format(in, &v);

    put_weights(in, f);
    if (!k)
        return;
    if (v) {
        flag_cannot(f, "cache.k, cache.v", "%s stores K and V in one format, not %s and %s",
                    engine, k, v);
        return;
    }
    if (plain(k)) {
        put_plain_cache(in, engine, k, f);
        return;
    }
    while (*types && strcmp(*types, k) != 0)
        types += 2;
    if (*types)
        flag_text(f, FLAG_COMMAND, "cache.format", "--kv-cache-dtype", types[1]);
    else
        flag_cannot(f, "cache.format", "%s has no cache format %s", engine, k);
}

/* --- memory ------------------------------------------------------------------------------- */

double flags_fraction(const struct flags_in *in, double fraction, uint64_t outside_bytes,
                      struct engine_flags *f)
{
    uint64_t visible = in->in->visible_bytes, device = in->device_bytes;
    double share;

    if (visible >= device || visible <= outside_bytes || device <= outside_bytes)
        return fraction;
    share = fraction * (double)(visible - outside_bytes) / (double)(device - outside_bytes);
    share = (double)(uint64_t)(share * 10000) / 10000;
    flag_note(f,
              "hardware.memory_limit: a memory fraction of %g under the limit is %g of all of "
              "this GPU's memory",
              fraction, share);
    return share;
}

void flags_cpu_offload(const struct flags_in *in, struct engine_flags *f)
{
    uint64_t bytes = in->in->work->offloaded_bytes;

    flag_u64(f, FLAG_COMMAND, "weights.offload_layers", "--cpu-offload-gb",
             bytes / GIB + (bytes % GIB != 0));
}

void flags_replicas(const struct flags_in *in, const char *engine, struct engine_flags *f)
{
    uint32_t dp = in->in->parallel.dp;

    if (dp > 1)
        flag_note(f, "parallel.dp: run %u of these; %s has no replicas of its own", dp, engine);
}
