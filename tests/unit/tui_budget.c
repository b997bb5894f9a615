/* The Budget screen without a terminal: where its parts lie, what keys and the mouse do, and
 * what stands on the screen then. */
#include <stdio.h>
#include <stdlib.h>

#include "planner/base/rng.h"
#include "tests/kvsession.h"
#include "tui/player.h"
#include "tui/screen/budget/budget.h"
#include "tui/why.h"

#define SPEC                                                                                   \
    "model: meta-llama/Meta-Llama-3.1-8B\n"                                                    \
    "hardware: {gpu: h100-sxm5-80gb}\n"                                                        \
    "engine: {name: vllm}\n"

/* --- parts ---------------------------------------------------------------------------------
 */

static bool overlap(struct rect a, struct rect b)
{
    return a.w > 0 && a.h > 0 && b.w > 0 && b.h > 0 && a.x < b.x + b.w && b.x < a.x + a.w &&
           a.y < b.y + b.h && b.y < a.y + a.h;
}

static void parts_are_checked(struct rect area, int lines)
{
    struct budget_parts p;
    const struct rect *r[] = {&p.knobs, &p.hint, &p.verdict, &p.bar, &p.figures, &p.notes};

    budget_arrange(area, lines, &p);
    for (int i = 0; i < 6; i++) {
        assert_true(r[i]->w >= 0 && r[i]->h >= 0);
        if (r[i]->w && r[i]->h) {
            assert_true(r[i]->x >= area.x && r[i]->x + r[i]->w <= area.x + area.w);
            assert_true(r[i]->y >= area.y && r[i]->y + r[i]->h <= area.y + area.h);
        }
        for (int j = 0; j < i && area.h >= 8; j++)
            assert_false(overlap(*r[i], *r[j]));
        if (area.w >= 80 && area.h >= 21)
            assert_true(r[i]->w > 0 && (r[i]->h > 0 || r[i] == &p.verdict));
    }
}

static void parts_lie_side_by_side(void **state)
{
    (void)state;
    for (int w = 1; w <= 250; w++)
        for (int h = 1; h <= 80; h++)
            for (int lines = 0; lines < 8; lines += 3)
                parts_are_checked((struct rect){0, 1, w, h}, lines);
}

static void text_is_broken_at_blanks(void **state)
{
    char out[4][256];

    (void)state;
    assert_int_equal(budget_wrap("one two three", 7, 4, out), 2);
    assert_string_equal(out[0], "one two");
    assert_string_equal(out[1], "three");
    assert_int_equal(budget_wrap("unbreakable", 4, 4, out), 1);
    assert_string_equal(out[0], "unbreakable");
    assert_int_equal(budget_wrap("a b c d", 1, 2, out), 2);
    assert_int_equal(budget_wrap("", 10, 4, out), 0);
    assert_int_equal(budget_wrap("  ", 10, 4, out), 0);
}

/* --- the screen ----------------------------------------------------------------------------
 */

struct screen_test {
    struct ks *k;
    struct arena *a;
    struct ui *ui;
    struct canvas c;
};

static struct screen_test *start(const char *spec, int w, int h)
{
    struct arena *a = arena_new();
    struct screen_test *t = ARENA_NEW(a, struct screen_test, 1);
    struct ui_options opt = {.screen = "budget"};
    struct event e = {.kind = EVENT_RESIZE, .x = w, .y = h};

    t->a = a;
    t->k = ks_open(spec);
    t->ui = ui_new(a, &t->k->s, &opt);
    canvas_init(&t->c, a, false);
    ui_event(t->ui, &e);
    ui_view(t->ui, &t->c);
    return t;
}

static void stop(struct screen_test *t)
{
    struct arena *a = t->a;

    ui_free(t->ui);
    ks_close(t->k);
    arena_free(a);
}

static void type(struct screen_test *t, const char *keys)
{
    struct diag *d = diag_new(t->a);
    bool ok = player_play(t->ui, &t->c, "keys", keys, d);

    if (!ok)
        diag_print(d, 0, true, stderr);
    assert_true(ok);
    ui_view(t->ui, &t->c);
}

static char *frame(struct screen_test *t)
{
    char *text = NULL, *copy;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    canvas_dump(&t->c, out);
    fclose(out);
    copy = arena_strdup(t->a, text);
    free(text);
    return copy;
}

static void sees(struct screen_test *t, const char *text)
{
    char *f = frame(t);

    if (!strstr(f, text)) {
        fprintf(stderr, "'%s' is not in\n%s", text, f);
        fail();
    }
}

static void misses(struct screen_test *t, const char *text)
{
    assert_null(strstr(frame(t), text));
}

static const char *key(struct screen_test *t, const char *dotted)
{
    const char *v = session_get(&t->k->s, dotted);

    return v ? v : "(none)";
}

/* From nothing to 100 users at 32k of a 70B model on H100s, without the manual. */
static void a_newcomer_sizes_a_cluster(void **state)
{
    struct screen_test *t = start(NULL, 80, 24);

    (void)state;
    sees(t, ">model");
    type(t, "Enter \"llama-3.1-70b\" Enter");
    assert_string_equal(key(t, "model"), "meta-llama/Llama-3.1-70B-Instruct");
    sees(t, "Does not fit");
    sees(t, "Needs 1 more GPU: F takes 2 GPUs as TP 2.");
    type(t, "Down Enter \"h100-sxm\" Enter Down Right");
    sees(t, ">GPUs            = 2");
    sees(t, "Fits:");
    type(t, "Down Down \"32k\" Enter Down Down \"100\" Enter");
    assert_string_equal(key(t, "workload.prompt"), "32k");
    assert_string_equal(key(t, "workload.batch"), "100");
    sees(t, "Does not fit: 100 sequences of 33,280");
    sees(t, "more GPUs: F takes");
    type(t, "F");
    sees(t, "the fewest that hold it");
    sees(t, "Fits: 100 sequences of 33,280 tokens");
    assert_true(t->k->s.ok && t->k->s.plan.fits && t->k->s.plan.max_batch >= 100);
    stop(t);
}

static void values_are_typed_in_place(void **state)
{
    struct screen_test *t = start(SPEC, 80, 24);

    (void)state;
    type(t, "Down Down Down Down 4 \"096\"");
    sees(t, ">prompt            4096");
    assert_string_equal(key(t, "workload.prompt"), "(none)");
    type(t, "Esc");
    sees(t, ">prompt            2k");
    type(t, "4 0 9 6 Enter");
    assert_string_equal(key(t, "workload.prompt"), "4096");
    type(t, "Enter Backspace \"7\" Down"); /* what was there is edited; Down takes it too */
    assert_string_equal(key(t, "workload.prompt"), "4097");
    type(t, "Backspace");
    assert_string_equal(key(t, "workload.prompt"), "(none)");
    type(t, "u");
    assert_string_equal(key(t, "workload.prompt"), "4097");
    type(t, "3 Ctrl-L"); /* not a letter of the field: leaves it as it was */
    assert_string_equal(key(t, "workload.prompt"), "4097");
    stop(t);
}

static void bad_values_keep_the_last_plan(void **state)
{
    struct screen_test *t = start(SPEC, 80, 24);

    (void)state;
    type(t, "Down Down Down Down 4 k k Enter");
    assert_false(t->k->s.ok);
    sees(t, ">prompt          ! 4kk");
    sees(t, "The last plan that worked:");
    sees(t, "'prompt' in workload: expected a number of tokens such as 4096");
    sees(t, "1 error");
    type(t, "F");
    sees(t, "the spec cannot be planned: mend it first");
    type(t, "u");
    assert_true(t->k->s.ok);
    misses(t, "last plan");
    type(t, ": \"gpu h1000\" Enter Down");
    sees(t, "! h1000");
    stop(t);
}

static void arrows_turn_and_signs_turn_finely(void **state)
{
    struct screen_test *t = start(SPEC, 80, 24);

    (void)state;
    type(t, "Down Down Right Right");
    assert_string_equal(key(t, "hardware.count"), "4");
    type(t, "Left");
    assert_string_equal(key(t, "hardware.count"), "2");
    type(t, "Down Left -");
    assert_string_equal(key(t, "hardware.memory_limit"), "63GiB");
    type(t, "Right Right");
    assert_string_equal(key(t, "hardware.memory_limit"), "(none)");
    type(t, "Right");
    sees(t, "there is no limit but the GPU's own memory");
    stop(t);
}

static void lists_are_picked_from_or_typed_over(void **state)
{
    struct screen_test *t = start(SPEC, 80, 24);

    (void)state;
    type(t, "Down Enter \"rtx-4090\" Enter");
    assert_string_equal(key(t, "hardware.gpu"), "rtx-4090");
    type(t, "Enter \"type another\" Enter");
    sees(t, ">GPU               rtx-4090");
    type(t, "Ctrl-U \"{memory: 24GiB, bandwidth: 1TB/s, fp16: 100TFLOPS}\" Enter");
    assert_true(t->k->s.ok);
    kt_u64(t->k->s.problem.visible_bytes, (uint64_t)24 << 30);
    stop(t);
}

static void figures_say_why(void **state)
{
    struct screen_test *t = start(SPEC, 80, 24);
    const char *why = NULL;

    (void)state;
    type(t, "m Enter");
    sees(t, "memory.per_gpu.weights_bytes");
    sees(t, "sum over the tensors this GPU holds");
    type(t, "Esc Down Down w");
    sees(t, "memory.per_gpu.non_torch_bytes");
    type(t, "Esc m w"); /* on a knob: the batch */
    sees(t, "capacity.max_batch = 175 sequences");
    type(t, "Esc m Left");
    sees(t, ">model");
    assert_null(why_text(&t->k->s, t->a, "no.such.figure", &why));
    assert_non_null(strstr(why, "no.such.figure"));
    assert_true(session_set(&t->k->s, "hardware", NULL, &why));
    assert_non_null(
        why_text(&t->k->s, t->a, "capacity.max_batch", &why)); /* of the last plan */
    stop(t);
}

static void messages_are_a_page(void **state)
{
    struct screen_test *t = start(SPEC "workload: {prompt: 200k}\n", 80, 24);

    (void)state;
    sees(t, "1 warning, ");
    type(t, "End Enter");
    sees(t, "exceed the 131072");
    sees(t, "note");
    stop(t);
}

static void a_baseline_shows_changes(void **state)
{
    struct screen_test *t = start(SPEC, 132, 40);

    (void)state;
    type(t, "b");
    misses(t, " %");
    type(t, ": \"cache fp8_e4m3\" Enter");
    sees(t, "-50 %"); /* half the bytes a token */
    sees(t, "against Meta-Llama-3.1-8B on 1 x h100-sxm5-80gb");
    type(t, "b b");
    misses(t, "against");
    stop(t);
}

static void the_mouse_selects_opens_and_scrolls(void **state)
{
    struct screen_test *t = start(SPEC, 80, 24);

    (void)state;
    type(t, "mouse press 5 8 mouse press 5 7"); /* the second on a title: nothing */
    sees(t, ">prompt");
    type(t, "mouse double 5 4 Esc");
    sees(t, ">GPU ");
    type(t, "mouse press 40 6");
    sees(t, "▒>outside");
    type(t, "mouse double 40 6");
    sees(t, "memory.per_gpu.non_torch_bytes");
    type(t, "Esc mouse down 5 10 mouse down 5 10");
    misses(t, "▒>outside");
    type(t, "mouse up 60 10");
    sees(t, "█>weights");
    stop(t);
}

static void rows_are_searched(void **state)
{
    struct screen_test *t = start(SPEC, 80, 24);

    (void)state;
    type(t, "/ \"evic\" Enter");
    sees(t, ">eviction");
    type(t, "/ \"tokens a second\" Enter");
    sees(t, " >tokens a second");
    stop(t);
}

static void without_a_plan_the_reason_stands_there(void **state)
{
    struct screen_test *t = start("model: nobody/knows\nhardware: {gpu: h100}\n", 80, 24);

    (void)state;
    sees(t, "unknown model 'nobody/knows'");
    type(t, "w");
    sees(t, "nothing is planned yet");
    type(t, "Down Down Right");
    sees(t, "there is no plan yet: mend the spec first");
    type(t, "Home Enter \"qwen3-8b\" Enter");
    assert_true(t->k->s.ok);
    stop(t);
}

/* Whatever is typed, there is a frame and the session is sound. */
static void any_keys_are_survived(void **state)
{
    static const uint32_t keys[] = {KEY_UP_ARROW,
                                    KEY_DOWN_ARROW,
                                    KEY_LEFT_ARROW,
                                    KEY_RIGHT_ARROW,
                                    KEY_PAGE_DOWN,
                                    KEY_HOME_KEY,
                                    KEY_END_KEY,
                                    13,
                                    27,
                                    '1',
                                    '9',
                                    'k',
                                    '+',
                                    '-',
                                    'm',
                                    'w',
                                    'u',
                                    'U',
                                    'b',
                                    8,
                                    'F',
                                    '.',
                                    '{',
                                    KEY_PAGE_UP};
    struct screen_test *t = start(NULL, 80, 24);
    struct rng r = {kt_seed(5)};

    (void)state;
    for (int i = 0; i < 1500; i++) {
        struct event e = {.kind = EVENT_KEY, .now_s = i};
        uint64_t v = rng_next(&r);
        e.key = keys[v % (sizeof keys / sizeof *keys)];
        if (v >> 32 & 63) {
            ui_event(t->ui, &e);
        } else {
            e = (struct event){.kind = EVENT_MOUSE,
                               .button = (enum mouse)(v >> 40 & 3),
                               .x = (int)(v >> 44 & 127),
                               .y = (int)(v >> 52 & 31)};
            ui_event(t->ui, &e);
        }
        ui_view(t->ui, &t->c);
        assert_true(t->k->s.planned && t->k->s.doc);
    }
    stop(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_lie_side_by_side),
        cmocka_unit_test(text_is_broken_at_blanks),
        cmocka_unit_test(a_newcomer_sizes_a_cluster),
        cmocka_unit_test(values_are_typed_in_place),
        cmocka_unit_test(bad_values_keep_the_last_plan),
        cmocka_unit_test(arrows_turn_and_signs_turn_finely),
        cmocka_unit_test(lists_are_picked_from_or_typed_over),
        cmocka_unit_test(figures_say_why),
        cmocka_unit_test(messages_are_a_page),
        cmocka_unit_test(a_baseline_shows_changes),
        cmocka_unit_test(the_mouse_selects_opens_and_scrolls),
        cmocka_unit_test(rows_are_searched),
        cmocka_unit_test(without_a_plan_the_reason_stands_there),
        cmocka_unit_test(any_keys_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
