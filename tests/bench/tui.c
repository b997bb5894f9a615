/* From a keystroke to the finished frame, everything on the screen computed anew: tui_frame_s
 * is the slowest of a hundred edits on Budget, tui_NAME_frame_s the same on another screen, and
 * tui_compare_large_frame_s on Compare with a model of 94 layers over 8 GPUs. Memory of a long
 * session, too. */
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "planner/doc/profile.h"
#include "tui/ui.h"

enum { EDITS = 100 };

/* CPU time: a frame waits for nothing, and other programs must not count. */
static double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

struct spent {
    double mean_s, worst_s;
};

/* Edits that change every figure: two prompts by turns, and each time another. */
static struct spent edits(struct ui *ui, struct session *s, struct canvas *c,
                          const char *screen)
{
    struct spent out = {0, 0};
    struct event key = {.kind = EVENT_KEY, .key = 'L' - 64};
    const char *why;

    ui_goto(ui, screen);
    ui_view(ui, c);
    for (int i = 0; i < EDITS; i++) {
        char value[32];
        double start = now_s(), spent;

        snprintf(value, sizeof value, "%d", 1024 + 64 * i);
        key.now_s = i;
        if (!session_set(s, "workload.prompt", value, &why))
            return out;
        ui_event(ui, &key);
        ui_view(ui, c);
        spent = now_s() - start;
        out.mean_s += spent / EDITS;
        out.worst_s = spent > out.worst_s ? spent : out.worst_s;
    }
    return out;
}

int main(void)
{
    static const char *const screens[] = {"budget", "compare", "layers", "curves", "front"};
    static const struct session_edit large[] = {{"model", "Qwen/Qwen3-235B-A22B"},
                                                {"hardware.count", "8"}};
    struct arena *a = arena_new();
    struct session s;
    struct canvas c;
    struct ui *ui;
    struct rusage use;

    setlocale(LC_CTYPE, "C.UTF-8");
    session_init(&s, a, profiles_open(a, NULL, diag_new(a)), NULL, NULL);
    ui = ui_new(a, &s, &(struct ui_options){0});
    canvas_init(&c, a, false);
    ui_event(ui, &(struct event){.kind = EVENT_RESIZE, .x = 200, .y = 60});
    for (size_t i = 0; i < sizeof screens / sizeof *screens; i++) {
        struct spent t = edits(ui, &s, &c, screens[i]);
        if (!strcmp(screens[i], "budget"))
            printf("bench: tui_frame_s %.6f s\n", t.worst_s);
        printf("bench: tui_%s_frame_s %.6f s\n", screens[i], t.worst_s);
        printf("bench: tui_%s_frame_mean_s %.6f s\n", screens[i], t.mean_s);
    }
    if (session_apply(&s, large, sizeof large / sizeof *large, NULL))
        printf("bench: tui_compare_large_frame_s %.6f s\n",
               edits(ui, &s, &c, "compare").worst_s);
    getrusage(RUSAGE_SELF, &use);
    printf("bench: tui_memory_mb %.1f MB\n", (double)use.ru_maxrss / 1024);
    ui_free(ui);
    session_free(&s);
    arena_free(a);
    return 0;
}
