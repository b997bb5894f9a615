/* Undo and redo: the texts of the spec after each edit. A text is some hundred bytes, so two
 * hundred of them cost less than the trees would. */
#include "tui/session_in.h"

#include <string.h>

void history_reset(struct history *h, const char *text)
{
    struct arena *fresh = arena_new();

    h->steps[0] = h->saved = arena_strdup(fresh, text);
    h->n = 1;
    h->at = h->dropped = 0;
    arena_free(h->arena);
    h->arena = fresh;
}

struct history *history_new(struct arena *a, const char *text)
{
    struct history *h = ARENA_NEW(a, struct history, 1);

    history_reset(h, text);
    return h;
}

void history_free(struct history *h)
{
    if (h)
        arena_free(h->arena);
}

/* Moves what is needed to a new arena when as much again is not. */
static void compact(struct history *h)
{
    struct arena *fresh;

    if (h->dropped < 2 * HISTORY_STEPS)
        return;
    fresh = arena_new();
    for (size_t i = 0; i < h->n; i++)
        h->steps[i] = arena_strdup(fresh, h->steps[i]);
    h->saved = arena_strdup(fresh, h->saved);
    arena_free(h->arena);
    h->arena = fresh;
    h->dropped = 0;
}

void history_push(struct history *h, const char *text)
{
    h->dropped += h->n - h->at - 1;
    h->n = h->at + 1;
    if (h->n == HISTORY_STEPS) {
        memmove(&h->steps[0], &h->steps[1], (HISTORY_STEPS - 1) * sizeof h->steps[0]);
        h->n--;
        h->dropped++;
    }
    h->at = h->n;
    h->steps[h->n++] = arena_strdup(h->arena, text);
    compact(h);
}

void history_saved(struct history *h, const char *text)
{
    h->saved = arena_strdup(h->arena, text);
    h->dropped++;
    compact(h);
}

const char *history_back(struct history *h)
{
    return h->at ? h->steps[--h->at] : NULL;
}

const char *history_forward(struct history *h)
{
    return h->at + 1 < h->n ? h->steps[++h->at] : NULL;
}
