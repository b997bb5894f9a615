/* The table of keys is true: every key does something, or says why not, on every screen that it
 * is listed for; and it is listed for the screens that can do it. Long sessions do not grow. */
#include "tests/tui/rig.h"

#include <locale.h>
#include <sys/resource.h>

#include "tui/ui_parts.h"

static const char results[] =
    "{\"schema\": \"kvbudget.validate/1\", \"device\": \"a GPU\", \"checks\": ["
    "{\"name\": \"one\", \"level\": \"count\", \"predicted\": 4, \"measured\": 4, \"ratio\": 1,"
    " \"tolerance\": 0.1, \"verdict\": \"pass\", \"reason\": \"equal\"},"
    "{\"name\": \"two\", \"level\": \"fit\", \"predicted\": 8, \"measured\": 9, \"ratio\": 1.1,"
    " \"tolerance\": 0.1, \"verdict\": \"fail\", \"reason\": \"more\"},"
    "{\"name\": \"two and a half\", \"verdict\": \"waived\", \"reason\": \"no GPU\"},"
    "{\"name\": \"three\", \"verdict\": \"waived\", \"reason\": \"no GPU\"},"
    "{\"name\": \"four\", \"level\": \"fit\", \"predicted\": 8, \"measured\": 8, \"ratio\": 1,"
    " \"tolerance\": 0.1, \"verdict\": \"pass\", \"reason\": \"equal\"}]}";

/* A screen with all it can show, the cursor not at its ends. */
static struct rig *open_screen(struct arena *a, const char *screen, const char *validation)
{
    struct rig *r =
        rig_open(a, &(struct ui_options){.validation = validation, .screen = screen});

    for (int i = 0; i < 400 && ui_deadline(r->ui, ui_now(r->ui)) >= 0; i++) {
        struct event e = {.kind = EVENT_TICK, .now_s = ui_now(r->ui) + 0.05};
        ui_event(r->ui, &e);
        ui_view(r->ui, &r->c);
        if (!strcmp(screen, "run") && i == 20)
            break;
    }
    rig_play(r, !strcmp(screen, "run")      ? ""
                : !strcmp(screen, "layers") ? "f Down"
                                            : "Down Down");
    return r;
}

static bool same_frame(const struct canvas *c, const struct cell *was)
{
    return !memcmp(c->cells, was, (size_t)(c->w * c->h) * sizeof *was);
}

/* Whether one press shows: a wish of the loop, another frame, or a message. */
static bool does_something(struct rig *r, uint32_t key)
{
    size_t n = (size_t)(r->c.w * r->c.h);
    struct cell *was = ARENA_NEW(r->a, struct cell, n);
    struct event e = {.kind = EVENT_KEY, .key = key, .now_s = ui_now(r->ui)};
    enum wish wish;

    memcpy(was, r->c.cells, n * sizeof *was);
    wish = ui_event(r->ui, &e);
    ui_view(r->ui, &r->c);
    return wish != WISH_NONE || !same_frame(&r->c, was);
}

/* What must be there first. */
static const char *before(enum action a)
{
    switch (a) {
    case ACT_BACK: return "? "; /* a page to leave */
    case ACT_REDO: return ": \"prompt 4096\" Enter u";
    default: return "";
    }
}

static void press_all(struct arena *a, const char *screen, const char *validation)
{
    for (size_t i = 0; keys_at(i); i++) {
        const struct key_row *row = keys_at(i);
        for (const char *p = row->keys; *p && keys_for(row, screen);) {
            size_t len = strcspn(p, " ");
            struct rig *r = open_screen(a, screen, validation);
            int own = ui_active(r->ui)->type->order;
            rig_play(r, before(row->action));
            if ((int)row->action != ACT_SCREEN_1 + own - 1 &&
                !does_something(r, keys_parse(p, len)))
                fail_msg("%.*s does nothing on %s", (int)len, p, screen);
            rig_close(r);
            p += len + strspn(p + len, " ");
        }
    }
}

static void test_every_key(void **state)
{
    struct kt *k = *state;
    char *folder = kt_folder(k->a), *path = rig_file(k->a, folder, "v.json", results);

    for (size_t i = 0; screen_at(i); i++)
        press_all(k->a, screen_at(i)->id, path);
    kt_folder_remove(folder);
}

/* Rows that a screen does not have are not listed for it, and the other way round. */
static void test_lists(void **state)
{
    (void)state;
    for (size_t k = 0; keys_at(k); k++)
        for (size_t i = 0; screen_at(i); i++) {
            const struct screen *s = screen_at(i);
            bool listed = keys_for(keys_at(k), s->id),
                 rows = s->rows && s->row_text && s->select;
            switch (keys_at(k)->action) {
            case ACT_SEARCH:
            case ACT_SEARCH_NEXT: assert_int_equal(listed, rows); break;
            case ACT_FILTER: assert_int_equal(listed, s->filter != NULL); break;
            case ACT_WHY: assert_int_equal(listed, s->why || s->about); break;
            default: break;
            }
        }
}

/* Keys of other screens say so. */
static void test_others(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});

    rig_play(r, "2 m");
    rig_shows(r, "m has nothing to do here; ? shows the keys");
    rig_play(r, "1 Space");
    rig_shows(r, "Space has nothing to do here; ? shows the keys");
    rig_play(r, "F9");
    rig_shows(r, "F9 has nothing to do here");
    rig_play(r, "2 I");
    rig_shows(r, "I has nothing to do here");
    rig_close(r);
}

/* --- why -------------------------------------------------------------------------------------
 */

/* One key on every screen: the figure explained, or the row described. */
static void test_why(void **state)
{
    struct kt *k = *state;
    struct rig *r = open_screen(k->a, "budget", NULL);

    rig_play(r, "w");
    rig_shows(r, "capacity.max_batch");
    rig_play(r, "Esc Up Up 2 w");
    rig_shows(r, "choose a row with a scheme");
    rig_play(r, "/ \"snapkv\" Enter w");
    rig_shows(r, "source      ");
    rig_shows(r, "snapkv");
    rig_play(r, "Esc 3 w");
    rig_shows(r, "cache.bytes_per_token");
    rig_play(r, "Esc 4 w");
    rig_shows(r, "capacity.max_batch");
    rig_close(r);
    r = open_screen(k->a, "front", NULL);
    rig_play(r, "/ \"snapkv\" Enter w");
    rig_shows(r, "source      ");
    rig_play(r, "Esc : \"screen\" Esc 6 w");
    rig_shows(r, "w has nothing to do here");
    rig_close(r);
}

/* --- memory ----------------------------------------------------------------------------------
 */

static long resident_kb(void)
{
    struct rusage use;

    getrusage(RUSAGE_SELF, &use);
    return use.ru_maxrss;
}

/* A round of everything that makes something: edits, pages, the baseline, all screens. */
static void play_round(struct rig *r, int i)
{
    struct arena *a = arena_new();
    const char *keys = arena_printf(
        a,
        "1 : \"prompt %d\" Enter w Esc b w Esc 2 Down w Esc Space 3 w Esc 4 w Esc 1 "
        ": \"output nonsense\" Enter u u : \"why memory.per_gpu.weights_bytes\" Enter Esc ? Esc",
        1024 + 16 * (i % 300));

    rig_play(r, keys);
    arena_free(a);
}

static void test_memory(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});
    long before_kb;
    int i = 0;

    for (; i < 60; i++)
        play_round(r, i);
    before_kb = resident_kb();
    for (; i < (KT_SANITIZED ? 80 : 360); i++)
        play_round(r, i);
    if (!KT_SANITIZED) /* which keeps what was freed */
        assert_in_range(resident_kb() - before_kb, 0, 1500);
    rig_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {kt_test(test_memory), kt_test(test_every_key),
                                       kt_test(test_lists), kt_test(test_others),
                                       kt_test(test_why)};

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
