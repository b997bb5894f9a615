/* Compare, Layers, Curves and Front: their figures against plans of their own, and
 * what their keys do. Frames are golden cases (tests/golden/tui-*). */
#include "tests/tui/rig.h"

#include <math.h>

#include "tui/apply.h"
#include "tui/curve_set.h"
#include "tui/front_set.h"
#include "tui/layer_map.h"
#include "tui/list.h"
#include "tui/tags.h"

static void set(struct rig *r, const char *key, const char *value)
{
    const char *why = "";

    if (!session_set(&r->session, key, value, &why) || !r->session.ok)
        fail_msg("%s: %s", key, why);
}

/* Llama 3.1 8B on an H100 without an engine's overhead: 131072 B a token. */
static struct rig *open_on(struct kt *k, const char *screen)
{
    struct rig *r = rig_open(k->a, &(struct ui_options){.screen = screen});

    set(r, "engine", NULL);
    ui_view(r->ui, &r->c);
    return r;
}

/* --- the list --------------------------------------------------------------------------- */

static const int numbers[] = {5, 3, 9, 3, 1, 7};
enum { N_NUMBERS = sizeof numbers / sizeof *numbers };

static void number_text(const void *rows, int i, char buf[LIST_TEXT])
{
    snprintf(buf, LIST_TEXT, "n%d", ((const int *)rows)[i]);
}

static int by_number(const void *rows, int a, int b)
{
    const int *v = rows;

    return v[a] - v[b];
}

static const struct list_column number_columns[] = {
    {"number", 8, false, 0, number_text, by_number},
    {"again", 0, true, 0, number_text, NULL},
};

static struct list a_list(struct arena *a, int fixed)
{
    struct list l = {.columns = number_columns, .n_columns = 2, .sort = -1, .none = "nothing"};

    list_set(&l, a, numbers, N_NUMBERS, fixed);
    list_update(&l);
    list_place(&l, (struct rect){2, 3, 30, 5});
    return l;
}

static void shows(const struct list *l, const char *want)
{
    char got[64] = "";
    size_t n = 0;

    for (int i = 0; i < l->n_shown; i++)
        n += (size_t)snprintf(got + n, sizeof got - n, "%d", l->shown[i]);
    kt_same(got, want);
}

/* Equal rows stay in their order; the fixed ones stay on top; the cursor stays on its row. */
static void lists_sort_and_filter(void **state)
{
    struct kt *k = *state;
    struct list l = a_list(k->a, 1);

    shows(&l, "012345");
    list_select(&l, 3);
    assert_int_equal(list_act(&l, ACT_SORT, NULL), LIST_USED);
    shows(&l, "041352");
    assert_int_equal(list_row(&l), 3);
    assert_int_equal(list_act(&l, ACT_INVERT, NULL), LIST_USED);
    shows(&l, "025134");
    snprintf(l.filter, sizeof l.filter, "N3");
    list_update(&l);
    shows(&l, "13");
    assert_int_equal(list_row(&l), 3);
    snprintf(l.filter, sizeof l.filter, "x");
    list_update(&l);
    assert_int_equal(list_row(&l), -1);
    assert_int_equal(list_act(&l, ACT_DOWN, NULL), LIST_USED);
    assert_int_equal(list_act(&l, ACT_LAST, NULL), LIST_USED);
    assert_int_equal(l.at, 0);
    assert_int_equal(list_act(&l, ACT_PIN, NULL), LIST_UNUSED);
}

/* Four of six rows are seen below the titles: a click takes the row it hits, on a title it
 * sorts, a second one turns the order round. */
static void lists_take_the_mouse(void **state)
{
    struct kt *k = *state;
    struct list l = a_list(k->a, 0);
    struct event e = {.kind = EVENT_MOUSE, .button = MOUSE_PRESS, .x = 5, .y = 6};

    assert_int_equal(list_act(&l, ACT_NONE, &e), LIST_USED);
    assert_int_equal(list_row(&l), 2);
    e.button = MOUSE_DOUBLE;
    assert_int_equal(list_act(&l, ACT_NONE, &e), LIST_OPENED);
    e.button = MOUSE_WHEEL_DOWN;
    assert_int_equal(list_act(&l, ACT_NONE, &e), LIST_USED);
    assert_int_equal(list_row(&l), 5);
    assert_int_equal(l.top, 2);
    e = (struct event){.kind = EVENT_MOUSE, .button = MOUSE_PRESS, .x = 3, .y = 3};
    assert_int_equal(list_act(&l, ACT_NONE, &e), LIST_USED);
    shows(&l, "413052");
    assert_int_equal(list_act(&l, ACT_NONE, &e), LIST_USED);
    shows(&l, "250134");
    e.x = 1;
    assert_int_equal(list_act(&l, ACT_NONE, &e), LIST_UNUSED);
    e = (struct event){.kind = EVENT_MOUSE, .button = MOUSE_PRESS, .x = 31, .y = 3};
    assert_int_equal(list_act(&l, ACT_NONE, &e), LIST_USED); /* this column has no order */
    shows(&l, "250134");
}

/* --- Compare ---------------------------------------------------------------------------- */

/* CLA halves the layers that keep K/V: 131072 / 2 B a token, and the spec gets it. */
static void compare_takes_a_scheme(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "compare");

    rig_shows(r, "128.00 KiB");
    rig_play(r, "/ \"cla\" Enter");
    rig_shows(r, "64.00 KiB");
    rig_play(r, "Enter");
    rig_shows(r, "the spec has cla now; u takes it back");
    kt_same(session_get(&r->session, "cache.sharing"), "cla");
    rig_shows(r, "as asked");
    rig_play(r, "u");
    assert_null(session_get(&r->session, "cache.sharing"));
    rig_hides(r, "as asked");
    rig_play(r, "/ \"fastgen\" Enter Enter");
    rig_shows(r, "fastgen: which policy a head gets depends on the data");
    assert_true(r->session.ok);
    rig_close(r);
}

/* gqa to one head has 1/8 of the bytes, cla 1/2: cla is the reference, so -75 %. */
static void compare_shows_tagged_side_by_side(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "compare");

    rig_play(r, "/ \"cla\" Enter Space");
    rig_hides(r, "KV per token");
    rig_play(r, "/ \"mqa\" Enter Space");
    rig_shows(r, "KV per token        64.00 KiB               16.00 KiB -75.0 %");
    kt_u64(tags_count(&r->session), 2);
    rig_play(r, "/ \"lckv\" Enter Space / \"mlkv\" Enter Space / \"yoco\" Enter Space");
    rig_shows(r, "4 are tagged, which is all that can be shown: take one away first");
    kt_u64(tags_count(&r->session), 4);
    rig_play(r, "/ \"cla\" Enter Space");
    kt_u64(tags_count(&r->session), 3);
    kt_same(r->session.tags[0], "mqa");
    assert_int_equal(tags_place(&r->session, "mlkv"), 3);
    assert_int_equal(tags_place(&r->session, "cla"), 0);
    rig_close(r);
}

static void compare_sorts_and_filters(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "compare");
    char *frame, *mlkv, *lckv, *shipped;

    rig_play(r, "F6 F6 g");
    frame = rig_text(r);
    shipped = strstr(frame, "as shipped");
    mlkv = strstr(frame, "mlkv ");
    lckv = strstr(frame, "lckv ");
    assert_true(shipped && mlkv && lckv && shipped < mlkv && mlkv < lckv);
    rig_play(r, "\\ \"KIVI\" Enter");
    rig_shows(r, "kivi2");
    rig_hides(r, "mlkv");
    rig_play(r, "Esc g");
    rig_shows(r, "mlkv");
    rig_play(r, "/ \"lckv\" Enter w");
    rig_shows(r, "published quality, the nearest setting");
    rig_close(r);
}

/* Only what differs from the defaults is said, and it reads back to the same plan. */
static void schemes_are_written_as_specs(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "compare");
    const struct compare *c = session_compare(&r->session);
    size_t n = c->n;

    for (size_t i = 1; i < n; i++) {
        const struct compare_row row = session_compare(&r->session)->rows[i];
        struct session_edit e[APPLY_EDITS];
        const char *why = "";
        if (row.status != COMPARE_OK)
            continue;
        assert_true(session_apply(&r->session, e, apply_edits(k->a, &row.use, e), &why));
        if (!r->session.ok || r->session.plan.max_batch != row.max_batch)
            fail_msg("%s as '%s': %s", row.name, e[0].value,
                     r->session.ok ? "differs" : "fails");
        assert_true(session_undo(&r->session));
    }
    rig_close(r);
}

/* --- Layers ----------------------------------------------------------------------------- */

/* 10 layers, LCKV with a warm-up of 1 below and 1 above: layers 2 to 8 read layer 9. */
static void lanes_join_readers_and_owner(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "layers");
    struct layer_map m;

    set(r, "cache.sharing", "{scheme: lckv, warmup: 2}");
    layer_map_build(k->a, &r->session.problem, &m);
    kt_u64(m.n_layers, 32);
    assert_int_equal(m.n_lanes, 1);
    assert_int_equal(m.n_spans, 1);
    kt_u64(m.spans[0].owner, 30);
    kt_u64(m.spans[0].lo, 1);
    assert_int_equal(layer_map_mark(&m, 0, 31, 31), MARK_NONE);
    assert_int_equal(layer_map_mark(&m, 0, 30, 30), MARK_OWNS);
    assert_int_equal(layer_map_mark(&m, 0, 1, 29), MARK_READS_ABOVE);
    assert_int_equal(layer_map_mark(&m, 0, 0, 0), MARK_NONE);
    kt_u64(layer_map_run(&m, 1), 29);
    kt_u64(layer_map_run(&m, 30), 30);
    ui_view(r->ui, &r->c);
    rig_shows(r, "2-30");
    rig_shows(r, "map 1 #>>>>>>>>>>>>>>>>>>>>>>>>>>>>>##");
    set(r, "cache.sharing", "yoco");
    layer_map_build(k->a, &r->session.problem, &m);
    assert_int_equal(layer_map_mark(&m, 0, 31, 31), MARK_READS_BELOW);
    rig_close(r);
}

/* The cells are what the report says: their bytes add up to one sequence after its prompt. */
static void cells_add_up(void **state)
{
    static const char *const models[] = {"Llama-3.1-8B", "DeepSeek-V3.2", "gemma-3-27b-it",
                                         "gemma-3n-E4B", "Falcon-H1-1.5B-Base"};
    struct kt *k = *state;
    struct rig *r = open_on(k, "layers");

    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct layer_map m;
        struct ck ck = {0};
        uint64_t sum = 0;
        set(r, "model", models[i]);
        layer_map_build(k->a, &r->session.problem, &m);
        for (int c = 0; c < m.n_cells; c++)
            sum += m.cells[c].bytes;
        kt_u64(sum, fold_resident_bytes(&r->session.problem.whole, 2048, 0,
                                        r->session.problem.block_tokens, &ck));
        ui_view(r->ui, &r->c);
    }
    rig_close(r);
}

/* PyramidKV keeps less the higher the layer: the bars are a pyramid, and nothing folds. */
static void the_pyramid_is_one(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "layers");
    struct layer_map m;

    set(r, "cache.eviction", "{scheme: pyramidkv, capacity: 512}");
    layer_map_build(k->a, &r->session.problem, &m);
    for (int i = 1; i < m.n_cells; i++)
        assert_true(m.cells[i].kept_tokens < m.cells[i - 1].kept_tokens);
    for (uint32_t i = 0; i < m.n_layers; i++)
        kt_u64(layer_map_run(&m, i), i);
    rig_close(r);
}

static void layers_fold_and_open(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "layers");

    rig_shows(r, "1-32");
    rig_play(r, "Enter");
    rig_shows(r, "  32    full");
    rig_hides(r, "1-32");
    rig_play(r, "Enter");
    rig_shows(r, "1-32");
    rig_play(r, "f G");
    rig_shows(r, "   1    full");
    rig_play(r, "m");
    rig_shows(r, "tokens after the prompt");
    rig_play(r, "f");
    rig_shows(r, "1-32");
    rig_close(r);
}

/* --- Curves ----------------------------------------------------------------------------- */

/* Each figure against the planner: the batch of a context is tight, memory passes what there is
 * between the largest batch and one more, speed and step are those of the plan. */
static void curves_are_plans(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "curves");
    struct curve_set s;
    struct workload w;
    uint64_t most, usable;

    curve_set_build(k->a, &r->session, &s);
    assert_int_equal(s.n, 1);
    for (uint64_t x = 700; x < 600000; x *= 3) {
        double v = curve_value(&s.plans[0], CURVE_BATCH, x);
        w = (struct workload){.prompt = x - 512, .output = 512};
        if (!isfinite(v)) {
            assert_false(capacity_fits(&r->session.problem, &w, 1));
            continue;
        }
        assert_true(capacity_fits(&r->session.problem, &w, (uint64_t)v));
        assert_false(capacity_fits(&r->session.problem, &w, (uint64_t)v + 1));
    }
    most = r->session.plan.max_batch;
    usable = curve_usable_bytes(&s);
    assert_true(curve_value(&s.plans[0], CURVE_MEMORY, most) <= (double)usable);
    assert_true(curve_value(&s.plans[0], CURVE_MEMORY, most + 1) > (double)usable);
    kt_rel(curve_value(&s.plans[0], CURVE_SPEED, most), r->session.plan.tokens_per_s, 1e-12);
    kt_rel(curve_value(&s.plans[0], CURVE_STEP, most), r->session.plan.decode_s, 1e-12);
    assert_true(isnan(curve_value(&s.plans[0], CURVE_SPEED, most + 1)));
    assert_true(isnan(curve_value(&s.plans[0], CURVE_BATCH, 0)));
    rig_close(r);
}

/* The pinned plan, the shipped model and the tagged schemes are drawn beside the spec. */
static void curves_draw_several_plans(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "curves");
    struct curve_set s;

    session_pin(&r->session);
    set(r, "cache.format", "fp8");
    assert_true(tags_toggle(&r->session, "cla"));
    assert_true(tags_toggle(&r->session, "fastgen")); /* no figure can be given */
    curve_set_build(k->a, &r->session, &s);
    assert_int_equal(s.n, 4);
    assert_int_equal(s.left_out, 1);
    kt_same(s.plans[1].name, "as shipped");
    kt_same(s.plans[2].name, "baseline");
    kt_same(s.plans[3].name, "cla");
    kt_u64(s.plans[2].plan.max_batch, s.plans[1].plan.max_batch);
    assert_true(s.plans[0].plan.max_batch > s.plans[1].plan.max_batch);
    assert_true(s.plans[3].plan.max_batch > s.plans[1].plan.max_batch);
    ui_view(r->ui, &r->c);
    rig_shows(r, "as shipped");
    rig_shows(r, "1 tagged left out");
    rig_close(r);
}

/* The cursor reads whole numbers, the window follows it, and Backspace undoes the zoom. */
static void curves_move_and_zoom(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "curves");
    char *start;

    start = rig_text(r);
    rig_shows(r, "at 2,560 tokens of a sequence");
    rig_play(r, "Right Right Left Left");
    rig_shows(r, "at 2,560 tokens of a sequence");
    rig_play(r, "+ + +");
    assert_string_not_equal(rig_text(r), start);
    rig_play(r, "Backspace");
    kt_same(rig_text(r), start);
    rig_play(r, "m m Home");
    rig_shows(r, "at 1 sequences");
    rig_play(r, "Left Left Left");
    rig_shows(r, "at 1 sequences");
    rig_play(r, "m");
    rig_shows(r, "[step/batch]");
    rig_play(r, "- - - - - - - - - - - - PgUp PgDn End Home Up Down mouse up 40 10");
    rig_close(r);
}

/* --- Front ------------------------------------------------------------------------------ */

static bool beats(const struct compare_row *a, const struct compare_row *b)
{
    return a->after_prefill_bytes <= b->after_prefill_bytes &&
           a->tokens_per_s >= b->tokens_per_s &&
           (a->after_prefill_bytes < b->after_prefill_bytes ||
            a->tokens_per_s > b->tokens_per_s);
}

static const struct compare_row *point_of(const struct front_set *f, const char *scheme,
                                          const char *format)
{
    for (size_t i = 0; i < f->rows.n; i++)
        if (!strcmp(f->rows.rows[i].name, scheme) && !strcmp(f->points[i].format, format))
            return &f->rows.rows[i];
    fail_msg("there is no %s with %s", scheme, format);
    return NULL;
}

/* The front by its definition: no point on it is beaten, every other one is. */
static void the_front_is_not_beaten(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "budget");
    struct front_set f;
    size_t on = 0;

    assert_true(front_begin(&r->session, &f));
    while (!front_step(&f, 50))
        ;
    kt_u64(f.n_done, f.n_all);
    for (int pass = FRONT_AS_TRAINED; pass <= FRONT_ALL; pass++) {
        front_mark(&f, pass);
        on = 0;
        for (size_t i = 0; i < f.rows.n; i++) {
            const struct compare_row *row = &f.rows.rows[i];
            bool in = pass == FRONT_ALL || !row->needs_training, beaten = false;
            for (size_t j = 0; j < f.rows.n && in; j++)
                beaten |= (pass == FRONT_ALL || !f.rows.rows[j].needs_training) &&
                          beats(&f.rows.rows[j], row);
            assert_true(f.points[i].on_front == (in && !beaten));
            on += f.points[i].on_front;
        }
        kt_u64(f.n_front, on);
        assert_true(on > 0);
    }
    kt_u64(point_of(&f, "as shipped", "as shipped")->after_prefill_bytes, 2048 * 131072);
    kt_u64(point_of(&f, "cla", "fp8")->after_prefill_bytes, 2048 * 131072 / 4);
    front_free(&f);
    rig_close(r);
}

/* A combination taken over plans to the figures it was shown with. */
static void front_points_are_specs(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "budget");
    struct front_set f;
    size_t tried = 0;

    assert_true(front_begin(&r->session, &f));
    while (!front_step(&f, 1000))
        ;
    for (size_t i = 0; i < f.rows.n; i += 29, tried++) {
        struct session_edit e[FRONT_EDITS];
        const char *why = "";
        assert_true(session_apply(&r->session, e, front_edits(k->a, &f, i, e), &why));
        if (!r->session.ok || r->session.plan.max_batch != f.rows.rows[i].max_batch)
            fail_msg("%s with %s differs", f.rows.rows[i].name, f.points[i].format);
        kt_rel(r->session.plan.tokens_per_s, f.rows.rows[i].tokens_per_s, 1e-12);
        assert_true(session_undo(&r->session));
        f.generation = r->session.generation;
        /* uses point into the comparison that the edit dropped: begin anew */
        front_free(&f);
        assert_true(front_begin(&r->session, &f));
        while (!front_step(&f, 1000))
            ;
        if (tried == 6)
            break;
    }
    front_free(&f);
    rig_close(r);
}

static void front_is_made_and_taken(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_on(k, "budget");

    rig_play(r, "5");
    rig_shows(r, "trying ");
    rig_play(r, "wait 3s");
    rig_hides(r, "trying ");
    rig_shows(r, "that nothing beats in memory and speed");
    rig_play(r, "Enter");
    rig_shows(r, "now; u takes it back");
    assert_non_null(session_get(&r->session, "cache.sharing"));
    rig_play(r, "Enter");
    rig_shows(r, "the front of the spec as it is now is still being made");
    rig_play(r, "wait 60s u"); /* an edit that the screen did not make */
    rig_shows(r, "trying ");
    rig_play(r, "wait 120s");
    rig_hides(r, "trying ");
    rig_play(r, "m");
    rig_shows(r, "that nothing beats without training");
    rig_play(r, "m");
    rig_shows(r, "in memory, speed and, of ");
    rig_play(r, "\\ \"kivi4\" Enter F6 I Right Left G PgUp mouse press 20 15 mouse down 20 15");
    rig_shows(r, "kivi4");
    rig_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(lists_sort_and_filter),
        kt_test(lists_take_the_mouse),
        kt_test(compare_takes_a_scheme),
        kt_test(compare_shows_tagged_side_by_side),
        kt_test(compare_sorts_and_filters),
        kt_test(schemes_are_written_as_specs),
        kt_test(lanes_join_readers_and_owner),
        kt_test(cells_add_up),
        kt_test(the_pyramid_is_one),
        kt_test(layers_fold_and_open),
        kt_test(curves_are_plans),
        kt_test(curves_draw_several_plans),
        kt_test(curves_move_and_zoom),
        kt_test(the_front_is_not_beaten),
        kt_test(front_points_are_specs),
        kt_test(front_is_made_and_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
