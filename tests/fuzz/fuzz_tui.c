/* The terminal interface without a terminal: two bytes an event, drawn after each. No crash,
 * the cursor inside the frame, the frame not empty. */
#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <unistd.h>

#include "planner/doc/profile.h"
#include "tests/fuzz/fuzz.h"
#include "tui/ui.h"

#undef NDEBUG
#include <assert.h>

enum { EVENTS_MAX = 400 };

/* Without slashes no path leaves the folder. */
static uint32_t key_of(uint8_t b)
{
    if (b >= 0x80)
        return KEY_UP_ARROW + (b & 0x3fu);
    return b == '/' ? 'x' : b;
}

static struct event event_of(uint8_t kind, uint8_t b, double now_s)
{
    struct event e = {.kind = EVENT_KEY, .key = key_of(b), .now_s = now_s};

    if (kind % 16 == 1) {
        e.kind = EVENT_MOUSE;
        e.button = (enum mouse)(kind >> 4 & 3);
        e.x = b;
        e.y = kind >> 2;
    } else if (kind % 16 == 2) {
        e.kind = EVENT_RESIZE;
        e.x = b;
        e.y = kind >> 1;
    } else if (kind % 16 == 3) {
        e.kind = EVENT_TICK;
    }
    return e;
}

static void check(const struct canvas *c)
{
    bool some = false;

    for (int i = 0; i < c->w * c->h && !some; i++)
        some = c->cells[i].cp != ' ';
    assert(some);
    assert(c->cursor_x == -1 || (c->cursor_x >= 0 && c->cursor_x < c->w));
    assert(c->cursor_y == -1 || (c->cursor_y >= 0 && c->cursor_y < c->h));
}

/* Into a folder that is gone: no file can be made or found there. Returns the way back. */
static int leave_folder(void)
{
    char path[] = "/tmp/fuzz_tui.XXXXXX";
    int back = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert(back >= 0 && mkdtemp(path) && chdir(path) == 0 && rmdir(path) == 0);
    return back;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct session s;
    struct canvas c;
    struct ui *ui;
    double now_s = 0;
    int back = leave_folder();

    setlocale(LC_CTYPE, "C.UTF-8");
    session_init(&s, a, profiles_open(a, NULL, diag_new(a)), NULL, NULL);
    ui = ui_new(a, &s, &(struct ui_options){.ascii = size % 2});
    canvas_init(&c, a, false);
    ui_view(ui, &c);
    for (size_t i = 0; i + 1 < size && i < 2 * EVENTS_MAX; i += 2) {
        struct event e = event_of(data[i], data[i + 1], now_s += 0.1);
        ui_event(ui, &e);
        ui_view(ui, &c);
        check(&c);
    }
    ui_free(ui);
    session_free(&s);
    arena_free(a);
    assert(fchdir(back) == 0);
    close(back);
    return 0;
}
