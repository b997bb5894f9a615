/* Eviction schemes against known token counts (tests/data/eviction.h), the peaks of rolling
 * caches, and what the schemes themselves hold. What they refuse: retention_bad.c.
 *
 * Vectors that are not the planner's, and why: page, block and group rules of vLLM and
 * llama.cpp, and the views of Hugging Face's sliding layers and of l2compress, are how an
 * engine allocates; eviction before a new turn of StreamingLLM has no turn to act on here;
 * two old revisions of PyramidKV's code are not offered; measured quality and memory are
 * evidence. Peaks of a prefill are tested with the cost functions. */
#include "tests/data/eviction.h"
#include "tests/kvcache.h"

static void published_counts(void **state)
{
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof eviction_cases / sizeof *eviction_cases; i++) {
        const struct eviction_case *c = &eviction_cases[i];
        struct layout *l =
            kc_layout(k, kc_model(k->a, c->layers, c->heads, c->kv_heads, c->head_dim));
        print_message("%s\n", c->id);
        kc_apply(k, l, AXIS_RETENTION, c->spec);
        kt_same(kc_stored(k, l, c->prompt, c->decoded), c->kept);
    }
}

struct rolling {
    const char *spec;
    uint64_t prompt, decoded, peak;
    enum keep_when when;
};

/* The most a row holds in a decode, a step's own token included, and when the rule acts. */
static void rolling_caches(void **state)
{
    static const struct rolling cases[] = {
        /* streaming-llm@2e50426, class run: 2005 in attention, 2004 after */
        {"{scheme: streamingllm, recent: 2000}", 1, 3000, 2005, KEEP_EVERY_STEP},
        {"{scheme: streamingllm, recent: 2000}", 8192, 0, 2004, KEEP_EVERY_STEP},
        {"{scheme: streamingllm, recent: 2000}", 8192, 10, 2005, KEEP_EVERY_STEP},
        {"{scheme: streamingllm, recent: 2000}", 10, 5, 15, KEEP_EVERY_STEP},
        {"{scheme: streamingllm, capacity: 128, layout: kv_head}", 8192, 10, 138,
         KEEP_IN_LAYER},
        {"{scheme: streamingllm, compression_ratio: 0.5}", 1000, 10, 510, KEEP_IN_LAYER},
        /* H2O@ac75c2a real drop, run: 256 held, 257 inside a step */
        {"{scheme: h2o, heavy: 64, recent: 192}", 600, 50, 257, KEEP_IN_LAYER},
        {"{scheme: h2o, mode: mask}", 600, 50, 650, KEEP_NEVER},
        /* TOVA@9c7d09b, run: 513 inside a step */
        {"{scheme: tova, capacity: 512}", 8192, 100, 513, KEEP_IN_LAYER},
        {"{scheme: snapkv, capacity: 512}", 8192, 100, 612, KEEP_IN_LAYER},
        {"{scheme: l2norm, keep_ratio: 0.5, skip_layers: []}", 4096, 100, 2148,
         KEEP_AFTER_PREFILL},
        /* l2compress@f93d6ca, pruning after every forward, run */
        {"{scheme: l2norm, schedule: every_step, skip_layers: []}", 0, 2500, 1000,
         KEEP_EVERY_STEP},
        {"{scheme: l2norm, schedule: every_step, skip_layers: []}", 0, 500, 500,
         KEEP_EVERY_STEP},
        {"{scheme: l2norm, schedule: every_step, skip_layers: []}", 4096, 0, 4015,
         KEEP_EVERY_STEP},
        {"{scheme: l2norm, schedule: every_step, skip_layers: []}", 4096, 300, 4016,
         KEEP_EVERY_STEP},
        {"{scheme: l2norm, schedule: every_step, keep_ratio: 1, skip_layers: []}", 4096, 300,
         4396, KEEP_EVERY_STEP},
        {"{scheme: decoding-press}", 5000, 100, 5100, KEEP_EVERY_STEP},
        {"{scheme: decoding-press}", 5000, 600, 5512, KEEP_EVERY_STEP},
        {"{scheme: decoding-press}", 100, 5000, 2560, KEEP_EVERY_STEP},
        {"{scheme: quest, layout: kv_head}", 5000, 10, 5010, KEEP_NEVER},
    };
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct layout *l = kc_layout(k, kc_model(k->a, 2, 8, 8, 64));
        const struct cache_row *r = &l->rows[1];
        print_message("%s %d\n", cases[i].spec, (int)i);
        kc_apply(k, l, AXIS_RETENTION, cases[i].spec);
        kt_u64(row_peak_tokens(&l->rows[1], cases[i].prompt, cases[i].decoded), cases[i].peak);
        r = &l->rows[1];
        assert_true(r->keep.when == cases[i].when);
        assert_true(row_stored_tokens(r, cases[i].prompt, cases[i].decoded) <= cases[i].peak);
        kt_u64(row_unpruned_tokens(r, cases[i].prompt), cases[i].prompt);
    }
}

/* A naive loop, as eval_lm_quick of l2compress runs it. */
static uint64_t saw_by_steps(double ratio, uint64_t after, uint64_t n, uint64_t steps,
                             uint64_t *most)
{
    uint64_t tokens = n;

    *most = 0;
    for (uint64_t i = 0; i <= steps; i++) {
        tokens += i != 0;
        *most = i && tokens > *most ? tokens : *most;
        if (tokens >= after) {
            double cut = ratio * (double)tokens;
            tokens = (uint64_t)cut + ((double)(uint64_t)cut < cut);
        }
        *most = tokens > *most ? tokens : *most;
    }
    return tokens;
}

static void saw_equals_the_loop(void **state)
{
    static const char *const ratios[] = {"0.98", "0.5", "0.07",   "0.999",
                                         "1",    "0",   "0.9999", "0.75"};
    static const double values[] = {0.98, 0.5, 0.07, 0.999, 1, 0, 0.9999, 0.75};
    static const uint64_t thresholds[] = {0, 1, 2, 100, 1000},
                          prompts[] = {0, 1, 99, 100, 4096};
    static const uint64_t steps[] = {0, 1, 2, 50, 99, 100, 101, 2500};
    struct kt *k = *state;

    for (size_t r = 0; r < sizeof values / sizeof *values; r++) {
        for (size_t t = 0; t < sizeof thresholds / sizeof *thresholds; t++) {
            struct layout *l = kc_layout(k, kc_model(k->a, 1, 8, 8, 64));
            kc_apply(k, l, AXIS_RETENTION,
                     arena_printf(k->a,
                                  "{scheme: l2norm, schedule: every_step, keep_ratio: %s, "
                                  "prune_after: %d, skip_layers: []}",
                                  ratios[r], (int)thresholds[t]));
            for (size_t j = 0; j < 5 * 8; j++) {
                uint64_t n = prompts[j / 8], s = steps[j % 8], most;
                uint64_t end = saw_by_steps(values[r], thresholds[t], n, s, &most);
                kt_u64(row_stored_tokens(&l->rows[0], n, s), end);
                kt_u64(row_peak_tokens(&l->rows[0], n, s), most);
            }
        }
    }
}

/* l2compress@f93d6ca: the first twenty steps after 4096 tokens at 0.98. */
static void saw_descends(void **state)
{
    static const uint64_t first[] = {4015, 3936, 3859};
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_model(k->a, 3, 8, 8, 64));

    kc_apply(k, l, AXIS_RETENTION, "{scheme: l2norm, schedule: every_step}");
    for (uint64_t i = 0; i < 3; i++)
        kt_u64(row_stored_tokens(&l->rows[2], 4096, i), first[i]);
    kt_u64(row_stored_tokens(&l->rows[2], 4096, 19), 2759);
    for (uint64_t i = 150; i < 300; i++) {
        uint64_t t = row_stored_tokens(&l->rows[2], 4096, i);
        assert_true(t >= 980 && t <= 999);
    }
    kt_u64(row_stored_tokens(&l->rows[0], 4096, 300), 4396); /* skipped */
}

/* arXiv:2406.02069 sec 4.2.1: k_top, k_bottom and step in reals, rounded up a layer. */
static void pyramid_paper(void **state)
{
    static const struct {
        uint32_t layers, capacity;
        double top, bottom, step;
    } cases[] = {{32, 64, 2.8, 109.2, 3.432258},
                 {32, 128, 6, 234, 7.354839},
                 {80, 128, 6, 234, 2.886076}};
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct layout *l = kc_layout(k, kc_model(k->a, cases[i].layers, 8, 8, 64));
        kc_apply(k, l, AXIS_RETENTION,
                 arena_printf(k->a, "{scheme: pyramidkv, variant: paper, capacity: %u}",
                              cases[i].capacity));
        for (uint32_t j = 0; j < cases[i].layers; j++) {
            double want = cases[i].bottom - j * cases[i].step;
            double got = (double)row_stored_tokens(&l->rows[j], 8192, 0) - 8;
            assert_true(got >= want - 1e-3 && got < want + 1 + 1e-3);
        }
        kt_u64(row_stored_tokens(&l->rows[0], 20, 0), 20);
        uint64_t sum = kc_tokens(l, 8192, 0), nominal = cases[i].layers * cases[i].capacity;
        assert_true(sum >= nominal && sum < nominal + cases[i].layers);
    }
}

/* Closed form of the code's rule: the sum is over the nominal one by ((max - min) mod (L -
 * 1)) L / 2. */
static void pyramid_overshoot(void **state)
{
    struct kt *k = *state;

    for (uint32_t layers = 2; layers < 90; layers += 3) {
        for (uint32_t c = 24; c < 600; c += 41) {
            struct layout *l = kc_layout(k, kc_model(k->a, layers, 8, 8, 64));
            uint64_t base = c - 8, span = 2 * base - 2 * (base / 20);
            kc_apply(k, l, AXIS_RETENTION,
                     arena_printf(k->a, "{scheme: pyramidkv, capacity: %u}", c));
            kt_u64(2 * (kc_tokens(l, 65536, 0) - (uint64_t)layers * c),
                   span % (layers - 1) * layers);
        }
    }
}

static void pyramid_of_one_layer(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_model(k->a, 1, 8, 8, 64));

    kc_says(
        k, l, AXIS_RETENTION, "{scheme: pyramidkv, capacity: 128}",
        "pyramidkv: one layer owns a cache; the official code divides by zero there, so its "
        "budget is the capacity");
    kt_same(kc_stored(k, l, 8192, 0), "128");
    kt_same(kc_stored(k, l, 50, 0), "50");
}

/* Llama-3-8B, 8192 tokens, fp16: bytes stored in both layouts (row of 4096 or 16384 bytes). */
static void layouts_in_bytes(void **state)
{
    static const struct {
        const char *spec;
        uint64_t kv_head, query_head;
    } cases[] = {
        {"scheme: pyramidkv, capacity: 128", 17498112, 69992448},
        {"scheme: snapkv, capacity: 2048", 268435456, 1073741824},
        {"scheme: streamingllm, capacity: 2048", 268435456, 1073741824},
        {"scheme: h2o, capacity: 2048", 268435456, 1073741824},
        {"scheme: adakv, capacity: 2048", 268435456, 1073741824},
        {"scheme: headkv, capacity: 2016", 268435456, 1073741824},
    };
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 32, 32, 8, 128);

    kt_u64(kc_bytes(kc_layout(k, m), 8192, 0), 1073741824);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct layout *kv = kc_layout(k, m), *q = kc_layout(k, m);
        kc_apply(k, kv, AXIS_RETENTION,
                 arena_printf(k->a, "{%s, layout: kv_head}", cases[i].spec));
        kc_apply(k, q, AXIS_RETENTION, arena_printf(k->a, "{%s}", cases[i].spec));
        kt_u64(kc_bytes(kv, 8192, 0), cases[i].kv_head);
        kt_u64(kc_bytes(q, 8192, 0), cases[i].query_head);
    }
    struct layout *l = kc_layout(k, m);
    kc_apply(k, l, AXIS_RETENTION, "{scheme: l2norm, keep_ratio: 0.5}");
    kt_u64(kc_bytes(l, 8192, 0), 570425344);
    kt_u64(kc_tokens(l, 8192, 1000), 171264);
    l = kc_layout(k, m);
    kc_apply(k, l, AXIS_RETENTION, "{scheme: streamingllm, recent: 2000}");
    kt_u64(kc_bytes(l, 8192, 0), 262668288);
    l = kc_layout(k, m);
    kc_says(
        k, l, AXIS_RETENTION, "h2o",
        "h2o: the release scores query heads and runs only where each has its own K/V head; "
        "these figures take one selection a K/V head");
    kt_u64(kc_bytes(l, 8192, 0), 268435456);
}

/* mit-han-lab/duo-attention@fe93c31: 2 d s (F n + (L H - F) (sinks + recent)). */
static void duoattention(void **state)
{
    static const struct {
        uint32_t kv_heads, full;
        uint64_t bytes;
    } cases[] = {
        {8, 128, 2172649472}, {32, 256, 4445962240}, {8, 0, 2172649472}, {8, 256, 4294967296}};
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct layout *l = kc_layout(k, kc_model(k->a, 32, 32, cases[i].kv_heads, 128));
        kc_apply(k, l, AXIS_RETENTION,
                 cases[i].full ? arena_printf(k->a, "{scheme: duoattention, full_heads: %u}",
                                              cases[i].full)
                               : "duoattention");
        kt_u64(kc_bytes(l, 32768, 0), cases[i].bytes);
        kt_u64(layout_kv_layers(l), 32);
    }
    /* spread as evenly as can be: 5 full heads over 4 layers of 2 */
    struct layout *l = kc_layout(k, kc_model(k->a, 4, 8, 2, 64));
    kc_apply(k, l, AXIS_RETENTION,
             "{scheme: duoattention, full_heads: 5, sinks: 1, recent: 9}");
    kt_same(kc_stored(k, l, 100, 0), "100 10 100 10 100 10 100");
    kt_u64(l->n_rows, 7);
    kt_u64(l->rows[6].kv_heads, 2);
    kt_same(kc_stored(k, l, 100, 7), "107 10 107 10 107 10 107");
    l = kc_layout(k, kc_model(k->a, 3, 8, 2, 64));
    kc_apply(k, l, AXIS_RETENTION,
             "{scheme: duoattention, full_heads: 2, sinks: 1, recent: 9}");
    kt_same(kc_stored(k, l, 100, 0), "10 100 10 100 10");
    kc_refused(
        k, kc_layout(k, kc_model(k->a, 4, 8, 2, 64)), AXIS_RETENTION,
        "{scheme: duoattention, full_heads: 9}",
        "duoattention: full_heads is 9, but the layers that own a cache have 8 K/V heads");
}

static struct extra_cost extra_of(struct kt *k, struct layout *l, const char *spec, uint64_t n,
                                  uint64_t decoded)
{
    struct extra_cost e = {0};
    struct scheme_use use;

    assert_true(kc_try(k, l, AXIS_RETENTION, spec, &use));
    use.scheme->extra(&use, l, &(struct phase){n, decoded}, &e);
    return e;
}

/* mit-han-lab/Quest@01c1623: metadata of a page is one more row; page tables in pages. */
static void quest(void **state)
{
    struct kt *k = *state;

    for (uint32_t heads = 8; heads <= 32; heads *= 4) {
        struct layout *l = kc_layout(k, kc_model(k->a, 1, heads, heads, 128));
        struct extra_cost e = extra_of(k, l, "quest", 32768, 0);
        kt_u64(kc_bytes(l, 32768, 0), 536870912 / 32 * heads);
        kt_u64(e.persistent_bytes, 33554432 / 32 * heads);
        kt_u64(e.decode_read_bytes, 0); /* the first two layers are dense */
    }
    struct layout *l = kc_layout(k, kc_model(k->a, 4, 8, 8, 64));
    struct extra_cost e = extra_of(k, l, "{scheme: quest, budget: 1000}", 10000, 0);
    kt_u64(row_attended_tokens(&l->rows[1], &l->rows[1], 10000, 0), 10001);
    kt_u64(row_attended_tokens(&l->rows[2], &l->rows[2], 10000, 0), 977);
    /* 61 pages of 16 and the newest, which has one; 625 pages in 40 pages: 640 rows of 2048
     * bytes a layer; two layers read those of all pages but the newest */
    kt_u64(e.persistent_bytes, 4 * 640 * 2048);
    kt_u64(e.decode_read_bytes, 2 * 625 * 2048);
    kt_u64(e.decode_write_bytes, 4 * 2048);
    kt_rel(e.decode_flop, 2 * 4.0 * 8 * 64 * 625, 0);
    kt_u64(row_attended_tokens(&l->rows[2], &l->rows[2], 10015, 0), 61 * 16 + 16);
    kt_u64(row_attended_tokens(&l->rows[2], &l->rows[2], 990, 0), 991); /* all 62 pages */
    kt_u64(row_attended_tokens(&l->rows[2], &l->rows[2], 992, 0), 61 * 16 + 1);
    e = extra_of(k, l, "{scheme: quest, budget: 1000}", 991, 0);
    kt_u64(e.decode_read_bytes, 0); /* nothing to choose */
    kt_rel(e.decode_flop, 0, 0);
    kc_apply(k, l, AXIS_RETENTION, "{scheme: quest, budget: 16}");
    kc_refused(k, l, AXIS_RETENTION, "{scheme: quest, budget: 8}",
               "quest: a budget of 8 is less than a page of 16");
}

/* ThinK@d200577: elements of K a head, (m - 32) (d - int(d r)) + 32 d; values whole. */
static void think(void **state)
{
    static const struct {
        uint64_t n;
        const char *ratio;
        uint64_t k_elems;
    } cases[] = {{1024, "0.4", 80480}, {2048, "0.5", 133120}};
    struct kt *k = *state;

    for (size_t i = 0; i < 2; i++) {
        struct layout *l = kc_layout(k, kc_model(k->a, 1, 1, 1, 128));
        struct extra_cost e =
            extra_of(k, l, arena_printf(k->a, "{scheme: think, ratio: %s}", cases[i].ratio),
                     cases[i].n, 0);
        struct cache_row v_less = l->rows[0];
        struct ck ck = {0};
        v_less.v_dim = 0;
        kt_u64(row_bytes(&v_less, cases[i].n, cases[i].n, &ck), 2 * cases[i].k_elems);
        kt_u64(kc_bytes(l, cases[i].n, 0), 2 * (cases[i].k_elems + cases[i].n * 128));
        kt_u64(kc_bytes(l, cases[i].n, 1) - kc_bytes(l, cases[i].n, 0),
               512); /* grows in full */
        kt_u64(e.persistent_bytes, 128);
        kt_u64(kc_bytes(l, 20, 0), 20 * 512);
    }
    kc_refused(k, kc_layout(k, kc_model(k->a, 2, 8, 8, 64)), AXIS_RETENTION,
               "{scheme: think, ratio: 1}",
               "think: a ratio of 1 leaves layer 2 no key channel");
}

/* Scores: 2 H w n d FLOP a layer for a window, 2 H n n d for the whole matrix, 2 H_kv n d
 * for norms. */
static void scoring(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 1, 32, 8, 128);
    struct extra_cost e;

    m->layers[0].attn.kv_source = 0;
    e = extra_of(k, kc_layout(k, m), "{scheme: snapkv, window: 32}", 8192, 0);
    kt_rel(e.prefill_flop, 2147483648.0, 0);
    kt_u64(e.transient_prefill_bytes, 33554432);
    e = extra_of(k, kc_layout(k, m), "snapkv", 2048, 0);
    kt_rel(e.prefill_flop, 0, 0); /* everything fits: nothing is scored */
    e = extra_of(k, kc_layout(k, m), "{scheme: h2o, capacity: 2048}", 8192, 0);
    kt_rel(e.prefill_flop, 549755813888.0, 0);
    kt_u64(e.transient_prefill_bytes, 4294967296 + 8589934592);
    e = extra_of(k, kc_layout(k, m), "{scheme: l2norm, keep_ratio: 0.5, skip_layers: []}", 8192,
                 0);
    kt_rel(e.prefill_flop, 16777216, 0);
    /* 65536 norms of 2 bytes and indices of 8, sorted copies of K and V */
    kt_u64(e.transient_prefill_bytes, 65536 * 10 + 33554432);
    e = extra_of(k, kc_layout(k, m), "{scheme: knorm}", 8192, 0);
    kt_rel(e.prefill_flop, 16777216, 0);
    e = extra_of(k, kc_layout(k, m), "{scheme: keydiff}", 8192, 0);
    kt_rel(e.prefill_flop, 3 * 16777216.0, 0);
    e = extra_of(k, kc_layout(k, m), "{scheme: expected-attention}", 8192, 0);
    kt_rel(e.prefill_flop, 4.0 * 32 * 8192 * 128 * 128, 0);
    kt_u64(e.transient_prefill_bytes, 32 * 128 * 128 * 4);
    e = extra_of(k, kc_layout(k, m), "{scheme: observed-attention}", 8192, 0);
    kt_u64(e.transient_prefill_bytes, 32ull * 8192 * 8192 * 6);
    /* H2O: 16-bit scores of 4 heads and 256 rows, a layer */
    e = extra_of(k, kc_layout(k, kc_model(k->a, 3, 4, 4, 64)),
                 "{scheme: h2o, heavy: 64, recent: 192}", 600, 50);
    kt_u64(e.persistent_bytes, 3 * 1024 * 2);
    kt_rel(e.decode_flop, 3 * 1024, 0);
    e = extra_of(k, kc_layout(k, m), "tova", 8192, 0);
    kt_u64(e.transient_prefill_bytes, 32 * 8192 * 4);
}

static void scoring_by_heads_and_steps(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 1, 32, 8, 128);
    struct extra_cost e;

    /* StreamingLLM rotates K anew: 2004 tokens, 8 heads of 128 in 16 bits, read and written */
    e = extra_of(k, kc_layout(k, m), "{scheme: streamingllm, recent: 2000}", 8192, 0);
    kt_u64(e.decode_read_bytes, 2004 * 8 * 128 * 2);
    kt_u64(e.decode_write_bytes, 2004 * 8 * 128 * 2);
    kt_rel(e.decode_flop, 3 * 2004 * 8 * 128, 0);
    e = extra_of(k, kc_layout(k, m), "{scheme: streamingllm, capacity: 100}", 8192, 0);
    kt_u64(e.decode_read_bytes, 0);
    e = extra_of(k, kc_layout(k, m), "{scheme: adakv}", 8192, 0);
    kt_u64(e.persistent_bytes, 8 * 32);
    e = extra_of(k, kc_layout(k, m), "{scheme: headkv}", 8192, 0);
    kt_u64(e.persistent_bytes, 8 * 32);
    e = extra_of(k, kc_layout(k, m), "{scheme: cake}", 8192, 0);
    kt_u64(e.persistent_bytes, 4);
    kt_rel(e.prefill_flop, 2147483648.0 + 6.0 * 32 * 32 * 8192, 0);
    e = extra_of(k, kc_layout(k, m), "{scheme: chunkkv}", 8192, 0);
    kt_rel(e.prefill_flop, 2.0 * 2147483648.0, 0);
    e = extra_of(k, kc_layout(k, m), "{scheme: pyramidkv, window: 8}", 8192, 0);
    kt_rel(e.prefill_flop, 2147483648.0 / 4, 0);
    e = extra_of(k, kc_layout(k, m), "duoattention", 8192, 0);
    kt_u64(e.persistent_bytes, 8);
    e = extra_of(k, kc_layout(k, m), "decoding-press", 8192, 0);
    kt_u64(e.persistent_bytes, 256 * 4096 * 2);
    kt_rel(e.decode_flop, 2.0 * 8 * 128 * 2560 / 512, 0);
    e = extra_of(k, kc_layout(k, m), "{scheme: l2norm, schedule: every_step, skip_layers: []}",
                 999, 0);
    kt_rel(e.decode_flop, 2.0 * 8 * 128 * 1000, 0);
    kt_rel(e.prefill_flop, 0, 0);
}

/* Windowed layers keep the smaller of window and rule. */
static void windowed_layers(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 3, 8, 8, 64);

    m->layers[1].attn.mixer = m->layers[2].attn.mixer = MIXER_SLIDING;
    m->layers[1].attn.window_tokens = 512;
    m->layers[2].attn.window_tokens = 4096;
    struct layout *l = kc_layout(k, m);
    kc_apply(k, l, AXIS_RETENTION, "{scheme: snapkv, capacity: 1024}");
    kt_same(kc_stored(k, l, 8192, 0), "1024 512 1024");
    kt_same(kc_stored(k, l, 8192, 5000), "6024 512 4096");
}

static void ragged_rows(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_model(k->a, 3, 8, 8, 64));

    kc_apply(k, l, AXIS_RETENTION, "{scheme: adakv, capacity: 100}");
    assert_true(l->rows[2].keep.ragged);
    kt_same(kc_stored(k, l, 5000, 3), "103*3");
    l = kc_layout(k, kc_model(k->a, 3, 2, 2, 64));
    kc_apply(k, l, AXIS_RETENTION, "{scheme: adakv, capacity: 132, head_counts: [150, 50]}");
    /* round(150 * 0.8 + 20) + 32, round(50 * 0.8 + 20) + 32 in every layer */
    kt_same(kc_stored(k, l, 5000, 0), "172 92 172 92 172 92");
    l = kc_layout(k, kc_model(k->a, 3, 8, 8, 64));
    kc_says(k, l, AXIS_RETENTION, "{scheme: cake, capacity: 100}",
            "cake: layer budgets depend on the data; every layer gets the mean here");
    kt_same(kc_stored(k, l, 132, 0), "132*3"); /* acts above capacity + window only */
    kt_same(kc_stored(k, l, 133, 0), "100*3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(published_counts),
        kt_test(rolling_caches),
        kt_test(saw_equals_the_loop),
        kt_test(saw_descends),
        kt_test(pyramid_paper),
        kt_test(pyramid_overshoot),
        kt_test(pyramid_of_one_layer),
        kt_test(layouts_in_bytes),
        kt_test(duoattention),
        kt_test(quest),
        kt_test(think),
        kt_test(scoring),
        kt_test(scoring_by_heads_and_steps),
        kt_test(windowed_layers),
        kt_test(ragged_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
