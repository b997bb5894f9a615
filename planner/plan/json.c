/* JSON output. cJSON keeps the tree; numbers are printed here, because cJSON's doubles
 * cannot hold byte counts, and so is the indentation, which should be readable and cheap to
 * diff. */
#include "planner/plan/json.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "planner/base/unit.h"

/* Without memory cJSON gives NULL; a report with a key missing would be a wrong answer. */
static cJSON *add(cJSON *to, const char *key, cJSON *item)
{
    cJSON_bool ok;

    assert(item != NULL);
    if (!to)
        return item;
    ok = key ? cJSON_AddItemToObject(to, key, item) : cJSON_AddItemToArray(to, item);
    assert(ok);
    (void)ok;
    return item;
}

cJSON *json_object(cJSON *parent, const char *key)
{
    return add(parent, key, cJSON_CreateObject());
}

cJSON *json_list(cJSON *parent, const char *key)
{
    return add(parent, key, cJSON_CreateArray());
}

void json_u64(cJSON *to, const char *key, uint64_t v)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRIu64, v);
    add(to, key, cJSON_CreateRaw(text));
}

void json_double(cJSON *to, const char *key, double v)
{
    assert(v - v == 0); /* finite */
    add(to, key, cJSON_CreateNumber(v));
}

void json_text(cJSON *to, const char *key, const char *v)
{
    if (v)
        add(to, key, cJSON_CreateString(v));
}

void json_bool(cJSON *to, const char *key, bool v)
{
    add(to, key, cJSON_CreateBool(v));
}

void json_whole(cJSON *to, const char *key, double v)
{
    if (v < 0)
        v = 0;
    if (v < 9007199254740992.0)
        json_u64(to, key, (uint64_t)(v + 0.5));
    else if (v < 18446744073709549568.0)
        json_u64(to, key, (uint64_t)v);
    else
        json_double(to, key, v);
}

void json_diagnostics(cJSON *list, const struct diag *d, size_t from)
{
    for (size_t i = from; i < diag_count(d); i++) {
        const struct diag_message *m = diag_at(d, i);
        cJSON *o = json_object(list, NULL);
        json_text(o, "severity", diag_severity(m->kind));
        json_text(o, "message", m->text);
        json_text(o, "file", m->at.file);
        if (m->at.file && m->at.line > 0)
            json_u64(o, "line", (uint64_t)m->at.line);
        if (m->at.file && m->at.line > 0 && m->at.col > 0)
            json_u64(o, "column", (uint64_t)m->at.col);
    }
}

/* --- reading back ------------------------------------------------------------------------ */

static const cJSON *child(const cJSON *of, const char *name, size_t n)
{
    uint64_t index = 0;

    if (cJSON_IsArray(of)) {
        for (size_t i = 0; i < n; i++) {
            if (name[i] < '0' || name[i] > '9' || index > 1000000000)
                return NULL;
            index = index * 10 + (uint64_t)(name[i] - '0');
        }
        return cJSON_GetArrayItem(of, (int)index);
    }
    for (const cJSON *c = cJSON_IsObject(of) ? of->child : NULL; c; c = c->next)
        if (strlen(c->string) == n && memcmp(c->string, name, n) == 0)
            return c;
    return NULL;
}

const cJSON *json_at(const cJSON *root, const char *path)
{
    while (root && *path) {
        size_t n = strcspn(path, ".");
        root = child(root, path, n);
        path += n + (path[n] == '.');
    }
    return root;
}

bool json_get_u64(const cJSON *v, uint64_t *out)
{
    return cJSON_IsRaw(v) && unit_parse_u64(v->valuestring, out) == UNIT_OK;
}

bool json_get_double(const cJSON *v, double *out)
{
    uint64_t whole;

    if (cJSON_IsNumber(v))
        *out = v->valuedouble;
    else if (json_get_u64(v, &whole))
        *out = (double)whole;
    else
        return false;
    return true;
}

/* --- printing ---------------------------------------------------------------------------- */

static void print_text(const char *s, FILE *out)
{
    fputc('"', out);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", out);
        else if (c == '\t')
            fputs("\\t", out);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

static bool is_plain(const cJSON *v)
{
    return !cJSON_IsObject(v) && !cJSON_IsArray(v);
}

static void print_plain(const cJSON *v, FILE *out)
{
    if (cJSON_IsString(v))
        print_text(v->valuestring, out);
    else if (cJSON_IsRaw(v))
        fputs(v->valuestring, out);
    else if (cJSON_IsNumber(v))
        fprintf(out, "%.15g", v->valuedouble);
    else if (cJSON_IsBool(v))
        fputs(cJSON_IsTrue(v) ? "true" : "false", out);
    else
        fputs("null", out);
}

static bool on_one_line(const cJSON *v)
{
    for (const cJSON *c = v->child; c; c = c->next)
        if (!is_plain(c))
            return false;
    return cJSON_IsArray(v) || !v->child;
}

static void new_line(int depth, FILE *out)
{
    fprintf(out, "\n%*s", 2 * depth, "");
}

/* depth < 0: everything on one line. Depth is that of our own trees, a handful. */
static void print_value(const cJSON *v, int depth, FILE *out)
{
    bool list = cJSON_IsArray(v), line = depth < 0 || on_one_line(v);

    if (is_plain(v)) {
        print_plain(v, out);
        return;
    }
    fputc(list ? '[' : '{', out);
    for (const cJSON *c = v->child; c; c = c->next) {
        if (!line)
            new_line(depth + 1, out);
        if (!list) {
            print_text(c->string, out);
            fputs(": ", out);
        }
        print_value(c, depth < 0 ? depth : depth + 1, out);
        if (c->next)
            fputs(line ? ", " : ",", out);
    }
    if (!line)
        new_line(depth, out);
    fputc(list ? ']' : '}', out);
}

void json_print(const cJSON *root, bool compact, FILE *out)
{
    print_value(root, compact ? -1 : 0, out);
    fputc('\n', out);
}
