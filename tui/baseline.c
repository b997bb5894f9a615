/* Figures by their paths in the report, and how they moved against a pinned plan. */
#include "tui/baseline.h"

#include <math.h>
#include <string.h>

#include "planner/base/ck.h"
#include "tui/session.h"

static const struct figure_row rows[N_FIGURES] = {
#define MEMORY(name) "memory.per_gpu." name, MEASURE_BYTES
    [FIGURE_WEIGHTS] = {"weights", MEMORY("weights_bytes"), -1, true, false},
    [FIGURE_ACTIVATIONS] = {"activations", MEMORY("activation_bytes"), -1, true, true},
    [FIGURE_OUTSIDE] = {"outside the framework", MEMORY("non_torch_bytes"), -1, true, true},
    [FIGURE_GRAPHS] = {"CUDA graphs", MEMORY("cuda_graph_bytes"), -1, true, true},
    [FIGURE_WORKSPACE] = {"workspace", MEMORY("workspace_bytes"), -1, true, true},
    [FIGURE_USED] = {"cache, in use", MEMORY("kv_pool_bytes"), 0, true, false},
    [FIGURE_FREE] = {"cache, free", MEMORY("free_bytes"), 0, true, false},
    [FIGURE_UNUSED] = {"not used", MEMORY("usable_bytes"), -1, true, true},
#undef MEMORY
    [FIGURE_BATCH] = {"sequences at most", "capacity.max_batch", MEASURE_COUNT, 1, false,
                      false},
    [FIGURE_CONTEXT] = {"longest context", "capacity.max_context", MEASURE_COUNT, 1, false,
                        false},
    [FIGURE_CONCURRENCY] = {"concurrency", "capacity.max_concurrency", MEASURE_RATIO, 1, false,
                            true},
    [FIGURE_TOKENS_PER_S] = {"tokens a second", "compute.decode.tokens_per_second",
                             MEASURE_RATE, 1, false, false},
    [FIGURE_DECODE] = {"decode step", "compute.decode.seconds", MEASURE_SECONDS, -1, false,
                       false},
    [FIGURE_PREFILL] = {"prefill a sequence", "compute.prefill.seconds_per_sequence",
                        MEASURE_SECONDS, -1, false, false},
    [FIGURE_TOKEN] = {"cache a token", "cache.bytes_per_token", MEASURE_BYTES, -1, false,
                      false},
    [FIGURE_PREFILL_PEAK] = {"a sequence in prefill", "cache.sequence.prefill_peak_bytes",
                             MEASURE_BYTES, -1, false, false},
    [FIGURE_AFTER_PREFILL] = {"after prefill", "cache.sequence.after_prefill_bytes",
                              MEASURE_BYTES, -1, false, false},
    [FIGURE_SEQUENCE] = {"at its end", "cache.sequence.final_bytes", MEASURE_BYTES, -1, false,
                         false},
    [FIGURE_STATE] = {"state of a sequence", "cache.state_bytes_per_sequence", MEASURE_BYTES,
                      -1, false, true},
    [FIGURE_HOST] = {"host memory", "memory.host_bytes", MEASURE_BYTES, -1, false, true},
};

const struct figure_row *figure_row(enum figure f)
{
    return &rows[f];
}

/* --- values --------------------------------------------------------------------------------
 */

static void set(struct figures *f, enum figure which, double v)
{
    f->v[which] = v;
    f->known[which] = true;
}

/* The pool of the tightest GPU, divided into what the planned batch takes and the rest (a pool
 * that is reserved for its slots is taken whole); and what no term takes. */
static void split_memory(const struct session *s, struct figures *f)
{
    const struct problem *p = &s->problem;
    const struct budget *b = &p->stages[s->plan.tightest].budget;
    uint64_t dp = u64_max(p->parallel.dp, 1), pool = b->kv_pool_bytes, used;
    uint64_t batch = s->plan.batch / dp + (s->plan.batch % dp != 0);
    double left = (double)b->total_bytes;
    struct ck ck = {0};

    used = batch ? need_bytes(&s->plan.need, batch, &ck) : 0;
    used = ck.over || b->reserved ? pool : u64_min(used, pool);
    set(f, FIGURE_USED, (double)used);
    set(f, FIGURE_FREE, (double)(pool - used));
    for (int i = 0; i < FIGURE_UNUSED; i++)
        left -= f->v[i];
    set(f, FIGURE_UNUSED, left > 0 ? left : 0);
}

void figures_of(struct session *s, struct figures *out)
{
    const cJSON *report = session_report(s);

    *out = (struct figures){0};
    if (!report)
        return;
    for (int i = 0; i < N_FIGURES; i++) {
        double v;
        if (json_get_double(json_at(report, rows[i].path), &v))
            set(out, (enum figure)i, v);
    }
    split_memory(s, out);
}

char *figure_text(enum figure f, double v, bool known, char *buf, size_t n)
{
    if (!known) {
        snprintf(buf, n, "-");
        return buf;
    }
    switch (rows[f].measure) {
    case MEASURE_BYTES: return unit_format_bytes((uint64_t)v, buf, n);
    case MEASURE_COUNT: return unit_format_count((uint64_t)v, buf, n);
    case MEASURE_SECONDS: return unit_format_seconds(v, buf, n);
    case MEASURE_RATIO:
    case MEASURE_RATE: break;
    }
    if (v >= 1000)
        return unit_format_count((uint64_t)(v + 0.5), buf, n);
    snprintf(buf, n, "%.*f", v < 100 ? 1 : 0, v);
    return buf;
}

/* --- the baseline --------------------------------------------------------------------------
 */

void baseline_pin(struct baseline *b, struct session *s)
{
    const char *model = s->problem.model.name, *gpu = s->problem.gpu.name, *slash;

    model = model && *model ? model : "the model";
    slash = strrchr(model, '/');
    b->pinned = true;
    b->generation = s->generation;
    snprintf(b->name, sizeof b->name, "%.40s on %u x %.24s", slash ? slash + 1 : model,
             s->problem.gpus, gpu && *gpu ? gpu : "GPU");
    figures_of(s, &b->figures);
    arena_free(b->arena);
    b->arena = arena_new();
    b->text = arena_strdup(b->arena, s->text);
}

static const char *plus(double d)
{
    return d > 0 ? "+" : "-";
}

static void write_change(double was, double is, char *buf, size_t n)
{
    double d = is - was, part = fabs(d) / was;

    if (was <= 0)
        snprintf(buf, n, "new");
    else if (is <= 0)
        snprintf(buf, n, "gone");
    else if (part < 0.0995)
        snprintf(buf, n, "%s%.1f %%", plus(d), 100 * part);
    else if (part < 9.995)
        snprintf(buf, n, "%s%.0f %%", plus(d), 100 * part);
    else
        snprintf(buf, n, "x %.0f", is / was);
}

enum change baseline_change(const struct baseline *b, const struct figures *now, enum figure f,
                            char *buf, size_t n)
{
    double was = b->figures.v[f], is = now->v[f];

    buf[0] = '\0';
    if (!b->pinned || !b->figures.known[f] || !now->known[f])
        return CHANGE_NONE;
    if (fabs(is - was) <= 0.0005 * fabs(was))
        return CHANGE_NONE;
    write_change(was, is, buf, n);
    if (!rows[f].better)
        return CHANGE_OTHER;
    return (is > was) == (rows[f].better > 0) ? CHANGE_BETTER : CHANGE_WORSE;
}
