/* Reads PTX text: program.h. One pass over the text; branches are settled at the end of their
 * function. The words of an instruction's name are all looked up in one table. */
#include "tests/ptx/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ptx/text.h"

/* clang-format off */
static const char *const op_names[N_OPS] = {
    "mov", "add", "sub", "mul", "mad", "fma", "div", "rem", "rcp", "sqrt", "ex2", "min",
    "max", "neg", "abs", "and", "or", "xor", "lop3", "not", "shl", "shr", "bfi", "prmt", "selp",
    "setp", "cvt", "cvta", "ld", "st", "atom", "cp", "bra", "call", "ret", "exit", "trap",
    "bar", "shfl", "vote", "mma", "ldmatrix", "movmatrix",
};

static const char *const word_names[N_WORDS] = {
    "", "u8", "s8", "b8", "u16", "s16", "b16", "f16", "bf16", "u32", "s32", "b32", "f32",
    "f16x2", "bf16x2", "u64", "s64", "b64", "f64", "pred", "global", "shared", "local",
    "param", "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu",
    "lo", "hi", "wide", "rn", "rzi", "rni", "rz", "approx", "ftz", "bfly", "idx", "up",
    "down", "ballot", "v2", "v4", "to", "uni", "sync", "aligned", "warp", "cs", "add",
    "async", "cg", "commit_group", "wait_group", "m16n8k16", "m16n8k8", "row", "col", "m8n8",
    "x4", "trans", "nc", "ca",
};

static const char *const special_names[] = {
    "%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y",
    "%ctaid.z", "%nctaid.x", "%nctaid.y", "%nctaid.z",
};
/* clang-format on */

enum { NAMES_ROOM = 1 << 15, BANKS_MAX = 16 };

struct names { /* of a function: what they stand for */
    struct text key[NAMES_ROOM];
    uint64_t value[NAMES_ROOM];
    bool used[NAMES_ROOM];
};

struct bank { /* %r<100> */
    struct text prefix;
    uint32_t first, count;
};

struct reader {
    const char *at;
    struct program *p;
    struct function *f;
    struct names labels, places, constants; /* places: parameters and local memory */
    struct names tables;                    /* of the module: addresses */
    struct bank banks[BANKS_MAX];
    uint32_t n_banks, code_room, constants_room;
    struct text *targets; /* by instruction: the label of a branch */
    uint16_t file, line;
    bool bad;
};

static void refuse(struct reader *r, const char *what, struct text t)
{
    if (!r->bad)
        fprintf(stderr, "ptx: %s: %s: %.*s\n", r->f ? r->f->name : "-", what,
                (int)(t.bytes < 200 ? t.bytes : 200), t.at);
    r->bad = true;
}

/* The entry of a name, new ones with the value 0 and *fresh. */
static uint64_t *named(struct names *n, struct text t, bool *fresh)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < t.bytes; i++)
        h = (h ^ (uint8_t)t.at[i]) * 16777619u;
    for (h %= NAMES_ROOM; n->used[h]; h = (h + 1) % NAMES_ROOM)
        if (n->key[h].bytes == t.bytes && !memcmp(n->key[h].at, t.at, t.bytes)) {
            *fresh = false;
            return &n->value[h];
        }
    *fresh = true;
    n->used[h] = true;
    n->key[h] = t;
    n->value[h] = 0;
    return &n->value[h];
}

/* The register that always holds this. */
static uint32_t constant_of(struct reader *r, struct text t, uint64_t value, uint8_t special)
{
    struct function *f = r->f;
    bool fresh;
    uint64_t *at = named(&r->constants, t, &fresh);

    if (!fresh)
        return (uint32_t)*at;
    if (f->n_constants == r->constants_room) {
        r->constants_room = 2 * r->constants_room + 16;
        f->constants = realloc(f->constants, r->constants_room * sizeof *f->constants);
    }
    f->constants[f->n_constants] = (struct constant){value, special};
    *at = f->n_registers + f->n_constants++;
    return (uint32_t)*at;
}

/* %rd58 is number 58 of the bank %rd. */
static bool in_bank(const struct reader *r, struct text t, uint32_t *out)
{
    for (uint32_t i = 0; i < r->n_banks; i++) {
        const struct bank *b = &r->banks[i];
        bool digits = t.bytes > b->prefix.bytes && b->count;
        if (t.bytes < b->prefix.bytes || memcmp(t.at, b->prefix.at, b->prefix.bytes))
            continue;
        for (size_t k = b->prefix.bytes; k < t.bytes; k++)
            digits = digits && t.at[k] >= '0' && t.at[k] <= '9';
        if (!digits && (b->count || t.bytes != b->prefix.bytes))
            continue;
        *out = b->first;
        if (digits)
            *out += (uint32_t)number_of(
                (struct text){t.at + b->prefix.bytes, t.bytes - b->prefix.bytes});
        return true;
    }
    return false;
}

static uint32_t operand_of(struct reader *r, struct text t)
{
    uint32_t found = 0;
    bool fresh;

    if (in_bank(r, t, &found))
        return found;
    for (uint8_t i = 0; i < sizeof special_names / sizeof *special_names; i++)
        if (same(t, special_names[i]))
            return constant_of(r, t, 0, (uint8_t)(SPECIAL_TID + i));
    if (t.bytes && (*t.at == '-' || (*t.at >= '0' && *t.at <= '9')))
        return constant_of(r, t, number_of(t), 0);
    if (same(t, "dev_shared_memory"))
        return constant_of(r, t, SHARED_AT, 0);
    uint64_t *place = named(&r->places, t, &fresh);
    if (fresh)
        place = named(&r->tables, t, &fresh);
    if (fresh)
        refuse(r, "no such name", t);
    return constant_of(r, t, *place, 0);
}

/* [name+8], or [8] */
static void read_address(struct reader *r, struct insn *i, struct text t)
{
    struct text base = cut(&t, '+');

    i->r[i->n++] = operand_of(r, base);
    if (t.bytes)
        i->offset = (int64_t)number_of(trim(t));
}

static void read_operand(struct reader *r, struct insn *i, struct text t)
{
    struct text first = cut(&t, '|');

    if (i->n + 2 > OPERANDS_MAX) {
        refuse(r, "too many operands", first);
        return;
    }
    if (*first.at == '!')
        refuse(r, "a negated operand", first);
    i->r[i->n++] = operand_of(r, first);
    if (t.bytes)
        i->r[i->n++] = operand_of(r, trim(t));
}

/* a, {b, c}, [d+8]: braces only group. */
static void read_operands(struct reader *r, struct insn *i, struct text t)
{
    for (t = trim(t); t.bytes && !r->bad; t = trim(t)) {
        const char *s = t.at;
        size_t n = 0;
        if (*s == '{' || *s == '}' || *s == ',') {
            t.at++;
            t.bytes--;
            continue;
        }
        if (*s == '[') {
            cut(&t, '[');
            read_address(r, i, cut(&t, ']'));
            continue;
        }
        while (n < t.bytes && !strchr(",{}", s[n]))
            n++;
        read_operand(r, i, trim((struct text){s, n}));
        t.at += n;
        t.bytes -= n;
    }
}

static void take_word(struct reader *r, struct insn *i, struct text t)
{
    uint8_t w = 1;

    while (w < N_WORDS && !same(t, word_names[w]))
        w++;
    if (w == N_WORDS) {
        refuse(r, "an unknown word", t);
        return;
    }
    if (w <= WORD_PRED) {
        i->second = i->type && !i->second ? w : i->second;
        i->type = i->type ? i->type : w;
        i->from = w;
        return;
    }
    i->words |= UINT64_C(1) << (w - WORD_GLOBAL);
    if (w <= WORD_PARAM)
        i->space = i->space ? i->space : w;
    else if (w <= WORD_GEU)
        i->compare = w;
    else if (w == WORD_V2 || w == WORD_V4)
        i->vec = w == WORD_V2 ? 2 : 4;
}

static bool is_short_float(uint8_t type)
{
    return type == WORD_F16 || type == WORD_BF16 || type == WORD_F16X2 || type == WORD_BF16X2;
}

static bool read_name(struct reader *r, struct insn *i, struct text name)
{
    struct text whole = name, op = cut(&name, '.');
    uint8_t k = 0;

    while (k < N_OPS && !same(op, op_names[k]))
        k++;
    if (k == N_OPS)
        refuse(r, "an unknown instruction", whole);
    i->op = k;
    i->vec = 1;
    while (name.bytes && !r->bad)
        take_word(r, i, cut(&name, '.'));
    if (is_short_float(i->type) && i->op != OP_CVT &&
        !(i->op == OP_FMA && (i->type == WORD_F16X2 || i->type == WORD_BF16X2)))
        refuse(r, "arithmetic that is not known here", whole);
    return !r->bad;
}

static struct slot slot_of(struct reader *r, struct text name)
{
    bool fresh;
    uint64_t *at = named(&r->places, name, &fresh);
    struct slot s = {(uint32_t)*at, 0};

    if (fresh)
        refuse(r, "no such parameter", name);
    return s;
}

/* (retval0), name, (param0, param1): r[0] is the place of the result, or UINT32_MAX. */
static void read_call(struct reader *r, struct insn *i, struct text t)
{
    struct text result = {NULL, 0}, name, arguments;

    t = trim(t);
    if (*t.at == '(') {
        cut(&t, '(');
        result = cut(&t, ')');
        cut(&t, ',');
    }
    name = cut(&t, ',');
    cut(&t, '(');
    arguments = cut(&t, ')');
    i->r[i->n++] = result.bytes ? slot_of(r, result).at : UINT32_MAX;
    while (arguments.bytes && i->n < OPERANDS_MAX)
        i->r[i->n++] = slot_of(r, cut(&arguments, ',')).at;
    i->target = UINT32_MAX;
    for (uint32_t k = 0; k < r->p->n_functions; k++)
        if (same(name, r->p->functions[k].name))
            i->target = k;
    if (i->target == UINT32_MAX)
        refuse(r, "no such function", name);
}

static struct insn *new_insn(struct reader *r)
{
    struct function *f = r->f;

    if (f->n_code == r->code_room) {
        r->code_room = 2 * r->code_room + 256;
        f->code = realloc(f->code, r->code_room * sizeof *f->code);
        r->targets = realloc(r->targets, r->code_room * sizeof *r->targets);
    }
    memset(&f->code[f->n_code], 0, sizeof *f->code);
    f->code[f->n_code].file = r->file;
    f->code[f->n_code].line = r->line;
    return &f->code[f->n_code++];
}

/* @%p1 name operands */
static void read_insn(struct reader *r, struct text t)
{
    struct insn *i = new_insn(r);
    struct text name;

    r->targets[r->f->n_code - 1] = (struct text){NULL, 0};
    if (*t.at == '@') {
        struct text guard = cut_word(&t);
        i->guarded = true;
        i->negated = guard.at[1] == '!';
        guard.at += 1 + i->negated;
        guard.bytes -= 1u + i->negated;
        i->guard = operand_of(r, guard);
    }
    name = cut_word(&t);
    if (!read_name(r, i, name))
        return;
    if (i->op == OP_BRA)
        r->targets[r->f->n_code - 1] = t;
    else if (i->op == OP_CALL)
        read_call(r, i, t);
    else
        read_operands(r, i, t);
}

static void settle_branches(struct reader *r)
{
    for (uint32_t k = 0; k < r->f->n_code && !r->bad; k++) {
        bool fresh;
        if (r->f->code[k].op != OP_BRA)
            continue;
        r->f->code[k].target = (uint32_t)*named(&r->labels, r->targets[k], &fresh);
        if (fresh)
            refuse(r, "no such label", r->targets[k]);
    }
}

/* .reg .b32 %r<100>; .reg .b64 %SP; */
static void read_registers(struct reader *r, struct text t)
{
    struct bank *b = &r->banks[r->n_banks];
    struct text name;

    cut_word(&t);
    if (r->n_banks == BANKS_MAX) {
        refuse(r, "too many kinds of registers", t);
        return;
    }
    name = cut(&t, '<');
    b->prefix = name;
    b->count = t.bytes ? (uint32_t)number_of(cut(&t, '>')) : 0;
    b->first = r->f->n_registers;
    r->f->n_registers += b->count ? b->count : 1;
    r->n_banks++;
}

/* .param .align 4 .b8 name[52], or .local, or .param .b64 name. In a body, a name may come
 * again: it keeps its place. */
static struct slot read_place(struct reader *r, struct text t, uint32_t *bytes_used,
                              uint32_t least)
{
    uint32_t bytes = 1;
    struct text word = cut_word(&t);
    bool fresh;

    while (starts(word, ".")) {
        for (uint8_t w = WORD_U8; w < WORD_PRED; w++)
            if (same((struct text){word.at + 1, word.bytes - 1}, word_names[w]))
                bytes = w <= WORD_B8 ? 1 : w <= WORD_BF16 ? 2 : w <= WORD_BF16X2 ? 4 : 8;
        if (same(word, ".align"))
            cut_word(&t);
        word = cut_word(&t);
    }
    struct text name = cut(&word, '[');
    if (word.bytes)
        bytes = (uint32_t)number_of(word);
    uint64_t *at = named(&r->places, name, &fresh);
    if (!fresh && bytes > least)
        refuse(r, "a name comes again", name);
    if (fresh) {
        *bytes_used = (*bytes_used + 15) / 16 * 16;
        *at = *bytes_used;
        *bytes_used += bytes > least ? bytes : least;
    }
    return (struct slot){(uint32_t)*at, bytes};
}

static void begin_function(struct reader *r)
{
    memset(&r->labels, 0, sizeof r->labels);
    memset(&r->places, 0, sizeof r->places);
    memset(&r->constants, 0, sizeof r->constants);
    r->n_banks = r->code_room = r->constants_room = 0;
    if (r->p->n_functions == FUNCTIONS_MAX) {
        refuse(r, "too many functions", (struct text){"", 0});
        return;
    }
    r->f = &r->p->functions[r->p->n_functions++];
}

/* .entry name(params), or .func (.param result) name(params); then .maxntid, then the body. */
static void read_header(struct reader *r, struct text t)
{
    struct text list;

    begin_function(r);
    if (r->bad)
        return;
    r->f->entry = starts(t, ".entry");
    cut_word(&t);
    if (*t.at == '(') {
        cut(&t, '(');
        r->f->result = read_place(r, cut(&t, ')'), &r->f->params_bytes, 0);
    }
    list = cut(&t, '(');
    if (list.bytes >= sizeof r->f->name)
        refuse(r, "a long name", list);
    else
        memcpy(r->f->name, list.at, list.bytes);
    list = cut(&t, ')');
    while (list.bytes && r->f->n_params < PARAMS_MAX)
        r->f->params[r->f->n_params++] = read_place(r, cut(&list, ','), &r->f->params_bytes, 0);
    cut(&t, '.');
    if (starts(t, "maxntid"))
        r->f->max_threads = (uint32_t)number_of((struct text){t.at + 8, t.bytes - 8});
}

/* Registers are all known when the first instruction comes: constants follow them. */
static void read_statement(struct reader *r, struct text t)
{
    if (starts(t, ".reg")) {
        if (!starts(t, ".reg .b32 temp_param_reg")) {
            cut_word(&t);
            read_registers(r, t);
        }
    } else if (starts(t, ".param")) {
        read_place(r, t, &r->f->params_bytes, 64);
    } else if (starts(t, ".local")) {
        read_place(r, t, &r->f->local_bytes, 0);
    } else if (!starts(t, ".pragma")) {
        read_insn(r, t);
    }
}

/* .file 2 "name", .loc 2 10 5 ..., .target sm_90: lines that end with the line. */
static void read_line(struct reader *r, struct text t)
{
    struct text word = cut_word(&t);

    if (same(word, ".target")) {
        r->p->sm = (uint32_t)number_of((struct text){t.at + 3, 2 + (t.bytes > 5)});
    } else if (same(word, ".loc")) {
        r->file = (uint16_t)number_of(cut_word(&t));
        r->line = (uint16_t)number_of(cut_word(&t));
    } else if (same(word, ".file")) {
        uint64_t n = number_of(cut_word(&t));
        const char *end = t.at + t.bytes - 1, *from = end;
        while (from > t.at && from[-1] != '/' && from[-1] != '"')
            from--;
        if (n < 32 && end - from < 64)
            memcpy(r->p->files[n], from, (size_t)(end - from));
    }
}

/* .global .align 4 .b8 name[64] = {0, 128, ...}: bytes that never change. */
static void read_table(struct reader *r, struct text t)
{
    struct program *p = r->p;
    struct text head = cut(&t, '['), name = head;
    uint32_t n = (uint32_t)number_of(cut(&t, ']')), at = (p->tables_bytes + 15) / 16 * 16;
    bool fresh;

    while (head.bytes)
        name = cut_word(&head);
    if (name.at[-2] != '8' || at + n > TABLES_ROOM) {
        refuse(r, "a table that is not understood", name);
        return;
    }
    *named(&r->tables, name, &fresh) = (uint64_t)(uintptr_t)(p->tables + at);
    p->tables_bytes = at + n;
    cut(&t, '{');
    t = cut(&t, '}');
    for (uint32_t i = 0; i < n && t.bytes; i++)
        p->tables[at + i] = (uint8_t)number_of(cut(&t, ','));
}

static bool is_line(struct text t)
{
    return starts(t, ".file") || starts(t, ".loc\t") || starts(t, ".target") ||
           starts(t, ".version") || starts(t, ".address_size") || starts(t, "//");
}

/* The next part of the module; what follows it. */
static const char *read_part(struct reader *r, const char *s)
{
    struct text t = until(s, "\n");

    if (is_line(t)) {
        read_line(r, t);
        return s + strcspn(s, "\n");
    }
    if (starts(t, ".section"))
        return s + strlen(s);
    if (starts(t, ".entry") || starts(t, ".func")) {
        t = until(s, "{");
        read_header(r, t);
        return s + strcspn(s, "{");
    }
    if (starts(t, ".global")) {
        read_table(r, until(s, ";"));
        return s + strcspn(s, ";") + 1;
    }
    if (starts(t, ".extern .shared"))
        return s + strcspn(s, ";") + 1;
    if (starts(t, ".visible") || starts(t, ".weak"))
        return s + strcspn(s, " \t");
    if (!r->f) {
        refuse(r, "not understood", t);
        return s;
    }
    if (*s == '{' || *s == '}')
        return s + 1;
    if (*s == '$' && memchr(t.at, ':', t.bytes)) {
        bool fresh;
        *named(&r->labels, cut(&t, ':'), &fresh) = r->f->n_code;
        return strchr(s, ':') + 1;
    }
    read_statement(r, until(s, ";"));
    return s + strcspn(s, ";") + 1;
}

struct program *program_read(const char *text)
{
    struct reader *r = calloc(1, sizeof *r);
    struct program *p = calloc(1, sizeof *p);
    const char *s = text;

    r->p = p;
    p->tables = aligned_alloc(256, TABLES_ROOM);
    memset(p->tables, 0, TABLES_ROOM);
    while (!r->bad) {
        while (is_space(*s))
            s++;
        if (!*s)
            break;
        if (r->f && (starts(until(s, "\n"), ".entry") || starts(until(s, "\n"), ".func")))
            settle_branches(r);
        s = read_part(r, s);
    }
    if (r->f)
        settle_branches(r);
    if (r->bad)
        p = NULL;
    free(r->targets);
    free(r);
    return p;
}
