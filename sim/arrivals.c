/* Random arrivals and lengths. Exponential by inversion, normal by the polar method, gamma by
 * Marsaglia and Tsang (ACM TOMS 26, 2000), all from splitmix64. */
#include "sim/arrivals.h"

#include <math.h>
#include <string.h>

#include "planner/base/rng.h"
#include "planner/base/unit.h"
#include "sim/trace_file.h"

enum process { PROCESS_POISSON, PROCESS_GAMMA, PROCESS_BURST, PROCESS_UNIFORM };
enum length { LENGTH_FIXED, LENGTH_UNIFORM, LENGTH_LOGNORMAL };
enum { SAMPLES_MAX = 1 << 16, FIELDS_MAX = 5, WORD_MAX = 64 };

struct length_law {
    enum length kind;
    uint64_t low, high; /* fixed: both; uniform: from, to */
    double mu, sigma;   /* of the logarithm */
};

struct length_pair {
    uint64_t prompt, output;
};

struct arrivals_gen {
    enum process process;
    double rate, cv; /* requests/s; of the intervals */
    uint64_t burst, count, seed;
    struct length_law prompt, output;
    const struct length_pair *samples; /* of a trace; NULL = by the laws */
    uint64_t n_samples;

    struct rng times, lengths;
    uint64_t n;
    double now_s;
};

/* --- draws ----------------------------------------------------------------------------------
 */

/* In (0, 1]: the logarithm is finite. */
static double open_unit(struct rng *r)
{
    return 1 - rng_unit(r);
}

static double exponential(struct rng *r)
{
    return -log(open_unit(r));
}

static double normal(struct rng *r)
{
    double x, y, s;

    do {
        x = 2 * rng_unit(r) - 1;
        y = 2 * rng_unit(r) - 1;
        s = x * x + y * y;
    } while (s >= 1 || s == 0);
    return x * sqrt(-2 * log(s) / s);
}

/* Gamma of shape k and mean k. */
static double gamma_draw(struct rng *r, double k)
{
    double more = k < 1 ? pow(open_unit(r), 1 / k) : 1, d = (k < 1 ? k + 1 : k) - 1.0 / 3,
           c = 1 / sqrt(9 * d);

    for (;;) {
        double x = normal(r), v = 1 + c * x;
        if (v <= 0)
            continue;
        v = v * v * v;
        if (log(open_unit(r)) < x * x / 2 + d * (1 - v + log(v)))
            return d * v * more;
    }
}

static uint64_t length_draw(struct rng *r, const struct length_law *law)
{
    double v;

    if (law->kind == LENGTH_FIXED)
        return law->low;
    if (law->kind == LENGTH_UNIFORM)
        return law->low + rng_below(r, law->high - law->low + 1);
    v = exp(law->mu + law->sigma * normal(r)) + 0.5;
    return v < 1 ? 1 : v >= TRACE_TOKENS_MAX ? TRACE_TOKENS_MAX : (uint64_t)v;
}

static double interval_s(struct arrivals_gen *g)
{
    double k = 1 / (g->cv * g->cv);

    switch (g->process) {
    case PROCESS_POISSON: return exponential(&g->times) / g->rate;
    case PROCESS_GAMMA: return gamma_draw(&g->times, k) / (k * g->rate);
    case PROCESS_BURST:
        return g->n % g->burst ? 0 : exponential(&g->times) * (double)g->burst / g->rate;
    case PROCESS_UNIFORM: break;
    }
    return 0;
}

bool arrivals_next(struct arrivals_gen *g, struct request *out)
{
    if (g->n == g->count)
        return false;
    g->now_s =
        g->process == PROCESS_UNIFORM ? (double)g->n / g->rate : g->now_s + interval_s(g);
    *out = (struct request){.id = g->n++, .arrival_s = g->now_s};
    if (g->samples) {
        const struct length_pair *p = &g->samples[rng_below(&g->lengths, g->n_samples)];
        out->prompt_tokens = p->prompt;
        out->output_tokens = p->output;
        return true;
    }
    out->prompt_tokens = length_draw(&g->lengths, &g->prompt);
    out->output_tokens = length_draw(&g->lengths, &g->output);
    return true;
}

void arrivals_restart(struct arrivals_gen *g)
{
    g->times = (struct rng){g->seed};
    g->lengths = (struct rng){g->seed ^ UINT64_C(0x5851f42d4c957f2d)};
    g->n = 0;
    g->now_s = 0;
}

/* --- reading what was asked for
 * ---------------------------------------------------------------
 */

static bool wrong(struct diag *d, const char *option, const char *found, const char *due)
{
    return diag_add(d, DIAG_USAGE, (struct loc){0}, "%s takes %s, found '%s'", option, due,
                    found);
}

/* Cuts "a,b,c" at commas into a copy; the number of fields, 0 where there are too many. */
static int cut(struct arena *a, const char *text, const char *field[FIELDS_MAX])
{
    char *s = arena_strdup(a, text);
    int n = 0;

    for (char *comma = s; comma && n < FIELDS_MAX; n++, s = comma) {
        field[n] = s;
        comma = strchr(s, ',');
        if (comma)
            *comma++ = '\0';
    }
    return n == FIELDS_MAX ? 0 : n;
}

static bool positive(const char *s, double most, double *out)
{
    return unit_parse_double(s, out) == UNIT_OK && *out > 0 && *out <= most;
}

static bool read_process(struct arena *a, const char *text, struct arrivals_gen *g,
                         struct diag *d)
{
    static const struct {
        const char *name;
        enum process process;
        int fields;
    } known[] = {{"poisson:", PROCESS_POISSON, 1},
                 {"gamma:", PROCESS_GAMMA, 2},
                 {"burst:", PROCESS_BURST, 2},
                 {"uniform:", PROCESS_UNIFORM, 1}};
    const char *field[FIELDS_MAX];
    bool ok = false;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = strlen(known[i].name);
        if (strncmp(text, known[i].name, n) != 0)
            continue;
        g->process = known[i].process;
        ok = cut(a, text + n, field) == known[i].fields && positive(field[0], 1e9, &g->rate);
    }
    g->cv = 1;
    if (ok && g->process == PROCESS_GAMMA)
        ok = positive(field[1], 100, &g->cv) && g->cv >= 0.01;
    if (ok && g->process == PROCESS_BURST)
        ok = unit_parse_u64(field[1], &g->burst) == UNIT_OK && g->burst > 0 &&
             g->burst <= 1000000000;
    return ok || wrong(d, "--arrivals", text,
                       "poisson:RATE, gamma:RATE,CV (0.01 to 100), burst:RATE,SIZE or "
                       "uniform:RATE with requests a second");
}

static bool tokens(const char *s, uint64_t *out)
{
    return unit_parse_tokens(s, out) == UNIT_OK && *out > 0 && *out <= TRACE_TOKENS_MAX;
}

/* Reads one law from field[0] (and field[1] where it has two); how many were used, 0 = none. */
static int read_law(struct arena *a, const char *const *field, int n, struct length_law *law)
{
    double mean = 0, cv = 0;

    if (!n)
        return 0;
    if (!strncmp(field[0], "uniform:", 8)) {
        const char *dash = strchr(field[0], '-');
        law->kind = LENGTH_UNIFORM;
        return dash &&
               tokens(arena_strndup(a, field[0] + 8, (size_t)(dash - field[0] - 8)),
                      &law->low) &&
               tokens(dash + 1, &law->high) && law->low <= law->high;
    }
    if (!strncmp(field[0], "lognormal:", 10)) {
        if (n < 2 || !positive(field[0] + 10, TRACE_TOKENS_MAX, &mean) ||
            !positive(field[1], 100, &cv))
            return 0;
        law->kind = LENGTH_LOGNORMAL;
        law->sigma = sqrt(log(1 + cv * cv));
        law->mu = log(mean) - law->sigma * law->sigma / 2;
        return 2;
    }
    law->kind = LENGTH_FIXED;
    if (!tokens(field[0], &law->low))
        return 0;
    law->high = law->low;
    return 1;
}

/* Lengths of a trace, prompt and output together: all of them, or an even sample (reservoir) of
 * SAMPLES_MAX. */
static bool read_samples(struct arena *a, const char *path, struct arrivals_gen *g,
                         struct diag *d)
{
    struct trace_source from = {.path = path, .lengths_only = true};
    struct trace_file *file = trace_file_open(a, &from, d);
    struct length_pair *v = ARENA_NEW(a, struct length_pair, SAMPLES_MAX);
    struct rng r = {g->seed};
    struct request one;
    uint64_t n = 0;
    bool failed = file == NULL;

    while (!failed && trace_file_next(file, &one, &failed)) {
        uint64_t at = n < SAMPLES_MAX ? n : rng_below(&r, n + 1);
        if (at < SAMPLES_MAX)
            v[at] = (struct length_pair){one.prompt_tokens, one.output_tokens};
        n++;
    }
    trace_file_close(file);
    g->samples = v;
    g->n_samples = n < SAMPLES_MAX ? n : SAMPLES_MAX;
    if (failed)
        return false;
    return n || diag_add(d, DIAG_INPUT, (struct loc){.file = path}, "holds no requests");
}

static bool read_lengths(struct arena *a, const char *text, struct arrivals_gen *g,
                         struct diag *d)
{
    const char *field[FIELDS_MAX];
    int n, first, second;

    if (!strncmp(text, "trace:", 6))
        return read_samples(a, text + 6, g, d);
    n = cut(a, text, field);
    first = read_law(a, field, n, &g->prompt);
    second = first ? read_law(a, field + first, n - first, &g->output) : 0;
    return (second && first + second == n) ||
           wrong(d, "--lengths", text,
                 "PROMPT,OUTPUT with tokens, uniform:A-B or lognormal:MEAN,CV for each, or "
                 "trace:FILE");
}

struct arrivals_gen *arrivals_new(struct arena *a, const struct arrivals *in, struct diag *d)
{
    struct arrivals_gen *g = ARENA_NEW(a, struct arrivals_gen, 1);
    bool ok;

    g->count = in->count;
    g->seed = in->seed;
    g->prompt.low = in->prompt;
    g->output.low = in->output;
    ok = read_process(a, in->process, g, d);
    if (in->lengths)
        ok = read_lengths(a, in->lengths, g, d) && ok;
    else if (!in->prompt || !in->output)
        ok = diag_add(d, DIAG_INPUT, (struct loc){0},
                      "a request has at least one prompt and one output token; the workload "
                      "has %llu and %llu",
                      (unsigned long long)in->prompt, (unsigned long long)in->output);
    if (!ok)
        return NULL;
    arrivals_restart(g);
    return g;
}
