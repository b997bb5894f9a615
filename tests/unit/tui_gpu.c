/* The line about the GPU of this machine, against the stand-in library tests/data/nvml.c, which
 * is compiled here. Skipped where there is no C compiler. */
#include "tests/kvtest.h"

#include <stdlib.h>

#include "tests/tui/rig.h"
#include "tui/gpu_live.h"

static char *stand_in(struct arena *a, const char *options)
{
    const char *cc = getenv("CC");
    char *folder = kt_folder(a);
    const char *compile =
        arena_printf(a, "%s -shared -fPIC -o '%s/nvml.so' %s tests/data/nvml.c 2>'%s/log'",
                     cc && *cc ? cc : "cc", folder, options, folder);

    if (system(compile) != 0) {
        print_message("skipped: no C compiler makes a shared library (set CC)\n");
        kt_folder_remove(folder);
        skip();
    }
    setenv("KVBUDGET_NVML", arena_printf(a, "%s/nvml.so", folder), 1);
    return folder;
}

/* The stand-in has an H100 of 81559 MiB with 20000 MiB in use at 41 degrees, and another one.
 */
static void test_line(void **state)
{
    struct kt *k = *state;
    char *folder = stand_in(k->a, "");
    struct gpu_live g = {0};

    assert_true(gpu_live_deadline(&g, 5) == 0);
    assert_true(gpu_live_read(&g, 5));
    kt_same(g.line,
            "this machine: NVIDIA H100 80GB HBM3, 19.5 of 79.6 GiB in use, 41 C; 1 more");
    assert_true(gpu_live_deadline(&g, 5.25) == 0.75);
    assert_false(gpu_live_read(&g, 5.25)); /* too soon */
    assert_true(gpu_live_deadline(&g, 6) == 0);
    assert_false(gpu_live_read(&g, 6)); /* the same as before */
    assert_true(gpu_live_deadline(&g, 6) == 1);
    gpu_live_close(&g);
    kt_folder_remove(folder);
    folder = stand_in(k->a, "-DOLD -DDEVICES=1");
    assert_true(gpu_live_read(&g, 0));
    kt_same(g.line, "this machine: NVIDIA H100 80GB HBM3, 1.0 of 16.0 GiB in use");
    gpu_live_close(&g);
    kt_folder_remove(folder);
}

/* Nothing there, or lost: no line, and it is not asked for again. */
static void test_none(void **state)
{
    struct kt *k = *state;
    struct gpu_live g = {0};
    char *folder;

    setenv("KVBUDGET_NVML", "/nonexistent", 1);
    assert_false(gpu_live_read(&g, 1));
    kt_same(g.line, "");
    assert_true(gpu_live_deadline(&g, 100) < 0);
    gpu_live_close(&g);
    folder = stand_in(k->a, "-DFAIL_DEVICE");
    assert_false(gpu_live_read(&g, 1));
    kt_same(g.line, "");
    assert_true(gpu_live_deadline(&g, 100) < 0);
    gpu_live_close(&g);
    kt_folder_remove(folder);
}

/* It stands in the message line of Budget while nothing else is said there. */
static void test_shown(void **state)
{
    struct kt *k = *state;
    struct rig *r = rig_open(k->a, &(struct ui_options){0});

    ui_set_machine(r->ui, "this machine: a GPU");
    rig_play(r, "Esc");
    rig_shows(r, "\nthis machine: a GPU\n");
    rig_play(r, "U");
    rig_hides(r, "this machine");
    rig_play(r, "2");
    rig_hides(r, "this machine");
    assert_false(ui_wants_machine(r->ui));
    rig_play(r, "1");
    rig_shows(r, "this machine");
    rig_close(r);
}

/* The driver is asked once a session: later edits plan the same GPU without the library, and so
 * do other screens. */
static void test_asked_once(void **state)
{
    struct kt *k = *state;
    char *folder = stand_in(k->a, "");
    struct rig *r = rig_open(k->a, &(struct ui_options){0});
    const struct gpu *g = &r->session.problem.gpu;

    rig_play(r, ": \"gpu local\" Enter");
    kt_same(g->name, "h100-sxm5-80gb");
    assert_true(r->session.ok && g->memory_total_bytes == 81559ULL << 20);
    kt_folder_remove(folder);
    setenv("KVBUDGET_NVML", "/nonexistent", 1);
    rig_play(r, ": \"prompt 4096\" Enter b 2 4 1");
    assert_true(r->session.ok && g->memory_total_bytes == 81559ULL << 20);
    rig_play(r, "4");
    rig_shows(r, "sequences that fit");
    rig_close(r);
    r = rig_open(k->a, &(struct ui_options){0}); /* another session has to ask */
    rig_play(r, ": \"gpu local\" Enter");
    assert_false(r->session.ok);
    rig_shows(r, "hardware.gpu: local:");
    rig_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {kt_test(test_line), kt_test(test_none),
                                       kt_test(test_shown), kt_test(test_asked_once)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
