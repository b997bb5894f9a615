/* Turning a knob: the next value down or up. Every step gives a value that can be written in a
 * spec; what the planner thinks of it is for the plan to say. */
#include <math.h>
#include <string.h>

#include "planner/base/ck.h"
#include "planner/plan/params.h"
#include "tui/knobs_in.h"
#include "tui/session_in.h"

#define GIB ((double)(1 << 30))
static const double WHOLE_MAX = 1e12, DEGREE_MAX = 65536;

/* --- numbers as text -----------------------------------------------------------------------
 */

const char *knob_write(struct arena *a, const struct knob *k, double v)
{
    uint64_t whole = (uint64_t)(v + 0.5);
    char buf[32];

    switch (k->kind) {
    case KNOB_TOKENS:
        if (whole >= 1024 && whole % 1024 == 0)
            return arena_printf(a, "%lluk", (unsigned long long)(whole / 1024));
        return arena_printf(a, "%llu", (unsigned long long)whole);
    case KNOB_BYTES: return arena_strdup(a, unit_format_bytes_exact(whole, buf, sizeof buf));
    case KNOB_SHARE: return arena_printf(a, "%.4g", v);
    case KNOB_WHOLE:
    case KNOB_GPUS:
    case KNOB_CHOICE:
    case KNOB_TEXT: break;
    }
    return arena_printf(a, "%llu", (unsigned long long)whole);
}

static bool parse(const struct knob *k, const char *text, double *out)
{
    uint64_t whole = 0;
    bool ok;

    if (k->kind == KNOB_SHARE)
        return unit_parse_double(text, out) == UNIT_OK;
    if (k->kind == KNOB_TOKENS)
        ok = unit_parse_tokens(text, &whole) == UNIT_OK;
    else if (k->kind == KNOB_BYTES)
        ok = unit_parse_bytes(text, &whole) == UNIT_OK;
    else
        ok = unit_parse_u64(text, &whole) == UNIT_OK;
    if (ok)
        *out = (double)whole;
    return ok;
}

bool knob_number(const struct session *s, struct arena *a, const struct knob *k, double *out)
{
    struct knob_value v;

    knob_value(s, a, k, &v);
    return *v.text && parse(k, v.text, out);
}

/* --- kinds of steps ------------------------------------------------------------------------
 */

struct step {
    struct session *s;
    struct arena *a;
    const struct knob *k;
    int by;
    bool fine;
};

/* Doubled, halved; finely by a tenth of tokens, by one of the rest. */
static double next_whole(const struct step *t, double v)
{
    double part = t->k->kind == KNOB_TOKENS ? floor(v / 10) : 1;

    if (t->fine)
        return v + t->by * (part > 1 ? part : 1);
    if (t->by > 0)
        return v > 0 ? 2 * v : t->k->kind == KNOB_TOKENS ? 128 : 1;
    return floor(v / 2);
}

static double next_share(const struct step *t, double v)
{
    int every = t->fine ? 1 : 5, percent = (int)(v * 100 + 0.5);
    int next = t->by > 0 ? (percent / every + 1) * every
                         : (percent - 1 + every) / every * every - every;

    return (next > 100 ? 100 : next < 0 ? 0 : next) / 100.0;
}

/* Sizes that memories have. */
static double next_bytes(const struct step *t, double v)
{
    static const uint16_t gib[] = {1,   2,   4,   6,   8,    10,   11,   12,   16,   20,   24,
                                   32,  40,  48,  64,  80,   94,   96,   128,  141,  192,  256,
                                   288, 384, 512, 768, 1024, 1536, 2048, 4096, 8192, 16384};
    size_t n = sizeof gib / sizeof *gib;

    if (t->fine)
        return v + t->by * GIB;
    for (size_t i = 0; i < n && t->by > 0; i++)
        if (gib[i] * GIB > v)
            return gib[i] * GIB;
    for (size_t i = n; i > 0 && t->by < 0; i--)
        if (gib[i - 1] * GIB < v)
            return gib[i - 1] * GIB;
    return v;
}

bool knob_tp_divides(const struct problem *p, uint64_t tp)
{
    for (uint32_t i = 0; i < p->layout.n_layers; i++) {
        const struct attention *t = &p->layout.layers[i].attn;
        if (t->mixer != MIXER_NONE && t->heads % tp)
            return false;
    }
    return true;
}

static bool divides(const struct step *t, const char *path, double v)
{
    const struct problem *p = &t->s->problem;

    if (!strcmp(path, "parallel.tp"))
        return knob_tp_divides(p, (uint64_t)v);
    if (!strcmp(path, "parallel.pp"))
        return v <= p->model.n_layers;
    if (!strcmp(path, "parallel.ep") || !strcmp(path, "parallel.cp"))
        return ((uint64_t)v & ((uint64_t)v - 1)) == 0;
    return true;
}

/* GPUs of one replica when the spec divides the model itself, else 0. */
static uint64_t divided(const struct session *s)
{
    const struct parallel *p = &s->problem.parallel;

    return doc_path(s->doc, "parallel") ? (uint64_t)p->tp * p->pp * p->cp : 0;
}

/* The next degree the model can be divided by; of the GPUs, as parallelism would use them. */
static double next_gpus(const struct step *t, double v)
{
    const char *path = t->k->path;
    uint64_t each = divided(t->s);

    if (knob_is(t->k, "hardware.count") && each)
        return (floor(v / (double)each) + t->by) * (double)each;
    if (knob_is(t->k, "hardware.count"))
        path = t->s->problem.engine->layer_split ? "parallel.pp" : "parallel.tp";
    for (double d = v + t->by; d >= 1 && d <= DEGREE_MAX; d += t->by)
        if (divides(t, path, d))
            return d;
    return v;
}

static double next_number(const struct step *t, double v)
{
    switch (t->k->kind) {
    case KNOB_WHOLE:
    case KNOB_TOKENS: return next_whole(t, v);
    case KNOB_SHARE: return next_share(t, v);
    case KNOB_BYTES: return next_bytes(t, v);
    case KNOB_GPUS: return next_gpus(t, v);
    case KNOB_CHOICE:
    case KNOB_TEXT: break;
    }
    return v;
}

static double least(const struct knob *k)
{
    if (k->field)
        return k->field->min;
    if (knob_is(k, "workload.prompt") || knob_is(k, "workload.output") ||
        knob_is(k, "workload.shared_prefix") || k->kind == KNOB_SHARE)
        return 0;
    if (k->kind == KNOB_BYTES)
        return GIB;
    return knob_is(k, "weights.offload_layers") || knob_is(k, "engine.offload_layers") ? 0 : 1;
}

static double most(const struct knob *k)
{
    return k->field && k->field->max > 0 ? k->field->max
           : k->kind == KNOB_SHARE       ? 1
           : k->kind == KNOB_BYTES       ? 1e15
                                         : WHOLE_MAX;
}

static bool step_number(const struct step *t, const char **why)
{
    const struct problem *p = &t->s->problem;
    bool limit = knob_is(t->k, "hardware.memory_limit");
    double v = limit ? (double)p->gpu.memory_usable_bytes : 0, next;
    bool known = knob_number(t->s, t->a, t->k, &v);

    next = next_number(t, v);
    if (limit && (next >= (double)p->gpu.memory_usable_bytes || (!known && t->by > 0)))
        return session_get(t->s, t->k->path)
                   ? knob_put(t->s, t->k, "", why)
                   : session_refuse(t->s, why, "there is no limit but the GPU's own memory");
    next = next < least(t->k) ? least(t->k) : next > most(t->k) ? most(t->k) : next;
    if (next == v && known)
        return session_refuse(t->s, why, "%s goes no %s than %s", t->k->label,
                              t->by < 0 ? "lower" : "higher", knob_write(t->a, t->k, v));
    return knob_put(t->s, t->k, knob_write(t->a, t->k, next), why);
}

/* auto stands below one sequence. */
static bool step_batch(const struct step *t, const char **why)
{
    double v;

    if (!knob_number(t->s, t->a, t->k, &v)) {
        if (t->by < 0)
            return session_refuse(t->s, why, "batch is auto: as many as fit");
        return knob_put(t->s, t->k, "1", why);
    }
    if (v <= 1 && t->by < 0)
        return knob_put(t->s, t->k, "auto", why);
    return step_number(t, why);
}

/* --- choices -------------------------------------------------------------------------------
 */

/* As the profile spells it, whatever alias the spec has. */
static const char *canonical(const struct step *t, const char *text)
{
    const struct problem *p = &t->s->problem;

    if (t->s->ok && knob_is(t->k, "model") && p->model.name)
        return p->model.name;
    if (t->s->ok && knob_is(t->k, "hardware.gpu") && p->gpu.name)
        return p->gpu.name;
    return text;
}

static bool step_choice(const struct step *t, const char **why)
{
    struct knob_items items;
    struct knob_value v;
    const char *now;
    size_t at = SIZE_MAX;

    knob_items(t->s, t->a, t->k, &items);
    knob_value(t->s, t->a, t->k, &v);
    now = v.given || t->k->field ? canonical(t, v.text) : "default";
    for (size_t i = 0; i < items.n && at == SIZE_MAX; i++)
        if (!strcmp(items.items[i], now) || !strcmp(items.items[i], v.text))
            at = i;
    if (!items.n)
        return session_refuse(t->s, why, "%s has no list: type it", t->k->label);
    if (at == SIZE_MAX)
        at = t->by > 0 ? 0 : items.n - 1;
    else if ((t->by < 0 && at == 0) || (t->by > 0 && at + 1 == items.n))
        return session_refuse(t->s, why, "'%s' is the %s of the list", items.items[at],
                              t->by < 0 ? "first" : "last");
    else
        at = t->by < 0 ? at - 1 : at + 1;
    return knob_put(t->s, t->k, items.items[at], why);
}

bool knob_step(struct session *s, const struct knob *k, int by, bool fine, const char **why)
{
    struct step t = {s, arena_new(), k, by, fine};
    bool ok = false;

    if (!s->planned && k->kind != KNOB_CHOICE)
        session_refuse(s, why, "there is no plan yet: mend the spec first");
    else if (k->kind == KNOB_CHOICE)
        ok = step_choice(&t, why);
    else if (k->kind == KNOB_TEXT)
        session_refuse(s, why, "%s is typed: press Enter", k->label + strspn(k->label, " "));
    else if (knob_is(k, "workload.batch"))
        ok = step_batch(&t, why);
    else
        ok = step_number(&t, why);
    arena_free(t.a);
    return ok;
}
