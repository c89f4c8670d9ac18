/* The ledger's arithmetic for the hot path: what identity.py and table.py do by numpy, bit for bit, for events at hand.

   fold(events, rows, start)            events, as bytes, become rows of 8 words: key, content, six of the name
   fold_batch(batch, rows, start)       the same of an encoded batch, whose events are its field 1, where they lie
   add(cells, keys, contents, names)    elements are added to a table's cells, in place

   Rules
   - An event that does not begin with its id and its source, with one byte of length each, or whose identity is longer than 96
     bytes, is odd: its row has its content alone, and its position is returned. Whoever called has it parsed.
   - Everything is checked before anything is written, but for what the events are: rows behind `start` may be written over.
   - The GIL is held: a call takes microseconds. No Python code runs between the checks and the end.
   - The reference is the code in numpy; tests/ledger/test_native.py compares them. Change both. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are taken from bytes as they lie there, which is right on little-endian machines alone"
#endif

#define CONTENT_BYTES 256
#define CONTENT_WORDS (CONTENT_BYTES / 8)
#define IDENTITY_BYTES 96
#define IDENTITY_WORDS (IDENTITY_BYTES / 8)
#define NAME_WORDS 6
#define ROW_WORDS (2 + NAME_WORDS)
#define PARTS 4
#define PART_CELLS 96
#define CELLS (PARTS * PART_CELLS)
#define CELL_WORDS (4 + NAME_WORDS)

/* So many events ahead. */
#define AHEAD 4
#define AHEAD_BYTES 2048
#define LINE_BYTES 64

#define TAG_ID 0x0A
#define TAG_SOURCE 0x12
#define TAG_EVENT 0x0A
/* Source: Protocol Buffers, Encoding. */
#define WIRE_VARINT 0
#define WIRE_FIXED64 1
#define WIRE_BYTES 2
#define WIRE_FIXED32 5
#define VARINT_BYTES_MAX 10
#define CHECK_SALT UINT64_C(0x9E3779B97F4A7C15)
#define CRC_POLYNOMIAL 0xEDB88320u

/* Of identity.py: what a word weighs in the checksum; what it is mixed with; what those from a place on come to if they are 0. */
static uint64_t factors[CONTENT_WORDS], salts[IDENTITY_WORDS], rest[IDENTITY_WORDS + 1];
/* Of a CRC, eight bytes at a time. Source: Kounavis, Berry, "A Systematic Approach to Building High Performance, Software-based
   CRC Generators", 2005. */
static uint32_t crcs[8][256];

static inline uint64_t mix(uint64_t word) {
    word = (word ^ word >> 27) * UINT64_C(0x3C79AC492BA7B653);
    word = (word ^ word >> 33) * UINT64_C(0x1C69B3F74AC4AE35);
    return word ^ word >> 27;
}

static void prepare(void) {
    for (uint64_t place = 0; place < CONTENT_WORDS; place++)
        factors[place] = mix(place + 1) | 1;
    for (uint64_t place = 0; place < IDENTITY_WORDS; place++)
        salts[place] = mix((place + 1) << 32);
    for (int place = IDENTITY_WORDS - 1; place >= 0; place--)
        rest[place] = rest[place + 1] + mix(salts[place]);
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? CRC_POLYNOMIAL : 0);
        crcs[0][byte] = crc;
    }
    for (int ahead = 1; ahead < 8; ahead++)
        for (int byte = 0; byte < 256; byte++)
            crcs[ahead][byte] = crcs[ahead - 1][byte] >> 8 ^ crcs[0][crcs[ahead - 1][byte] & 0xFF];
}

/* As zlib.crc32. */
static uint32_t crc32_of(const unsigned char *bytes, size_t size) {
    uint32_t crc = 0xFFFFFFFFu;
    for (; size >= 8; bytes += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        word ^= crc;
        crc = 0;
        for (int at = 0; at < 8; at++)
            crc ^= crcs[7 - at][word >> 8 * at & 0xFF];
    }
    for (; size; bytes++, size--)
        crc = crc >> 8 ^ crcs[0][(crc ^ *bytes) & 0xFF];
    return ~crc;
}

/* Where the identity ends; 0: odd. `head` has zeros behind the event. */
static size_t identity_bytes(const unsigned char *head) {
    size_t id_bytes = head[1];
    if (head[0] != TAG_ID || id_bytes > IDENTITY_BYTES - 4 || head[id_bytes + 2] != TAG_SOURCE)
        return 0;
    size_t end = id_bytes + 4 + head[id_bytes + 3];
    return end <= IDENTITY_BYTES ? end : 0;
}

/* Fills in a row; whether the event is odd. */
static int fold_one(const unsigned char *bytes, size_t size, uint64_t *row) {
    uint64_t words[CONTENT_WORDS];
    size_t here = size < CONTENT_BYTES ? size : CONTENT_BYTES;
    memcpy(words, bytes, here);
    memset((unsigned char *)words + here, 0, CONTENT_BYTES - here);

    uint64_t content = 0;
    for (size_t place = 0; place < (here + 7) / 8; place++)
        content += words[place] * factors[place];
    if (size > CONTENT_BYTES)
        content += crc32_of(bytes + CONTENT_BYTES, size - CONTENT_BYTES);

    size_t end = identity_bytes((const unsigned char *)words);
    size_t used = (end + 7) / 8;
    memset((unsigned char *)words + end, 0, IDENTITY_BYTES - end);
    uint64_t key = rest[used];
    for (size_t place = 0; place < used; place++)
        key += mix(words[place] ^ salts[place]);
    row[0] = mix(key);
    row[1] = content;
    memcpy(row + 2, words, NAME_WORDS * 8);
    return end == 0;
}

/* What is looked at of an event, asked of memory before it is needed: saves a third where events are not in the core's cache.
   By number, since no pointer may point beyond an object. */
static inline void fetch(PyObject *event) {
    for (uintptr_t line = (uintptr_t)event, end = line + sizeof(PyBytesObject) + CONTENT_BYTES; line < end; line += LINE_BYTES)
        __builtin_prefetch((const void *)line);
}

/* A variable-length integer of at most so many bytes as a tag or a length may have. 0: it is none. */
static inline int varint32(const unsigned char **at, const unsigned char *end, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 35 && *at < end; shift += 7) {
        unsigned char byte = *(*at)++;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return *value <= UINT32_MAX;
    }
    return 0;
}

/* The next event of an encoded batch: 1. 0: there is none; -1: whoever parses batches has to say what this is. */
static int next_event(const unsigned char **at, const unsigned char *end, const unsigned char **event, size_t *size) {
    while (*at < end) {
        uint64_t tag, length;
        if (!varint32(at, end, &tag) || tag < 8)
            return -1;
        switch (tag & 7) {
        case WIRE_VARINT:
            for (length = 1; *at < end && *(*at) >= 0x80; (*at)++)
                if (++length == VARINT_BYTES_MAX) /* whether the last of so many is right, is not for here */
                    return -1;
            length = 1;
            break;
        case WIRE_FIXED64:
            length = 8;
            break;
        case WIRE_FIXED32:
            length = 4;
            break;
        case WIRE_BYTES:
            if (!varint32(at, end, &length))
                return -1;
            break;
        default:
            return -1;
        }
        if (length > (size_t)(end - *at))
            return -1;
        *event = *at;
        *size = length;
        *at += length;
        if (tag == TAG_EVENT)
            return 1;
    }
    return 0;
}

/* A buffer of unsigned words of 64 bits in this machine's order; `columns` 0: a single column. 0: an exception is set. */
static int words_of(PyObject *given, const char *what, int flags, Py_ssize_t columns, Py_buffer *view) {
    if (PyObject_GetBuffer(given, view, flags | PyBUF_FORMAT) < 0)
        return 0;
    const char *format = view->format ? view->format : "B";
    size_t length = strlen(format);
    if (view->itemsize != 8 || length > 2 || (length == 2 && !strchr("@=<", format[0])) || !strchr("LQ", format[length - 1]))
        PyErr_Format(PyExc_TypeError, "%s: unsigned words of 64 bits are wanted, not '%s'", what, format);
    else if (view->ndim != (columns ? 2 : 1))
        PyErr_Format(PyExc_ValueError, "%s: %d dimensions are wanted, not %d", what, columns ? 2 : 1, view->ndim);
    else if (columns && view->shape[1] != columns)
        PyErr_Format(PyExc_ValueError, "%s: rows of %zd words are wanted, not of %zd", what, columns, view->shape[1]);
    else if (flags & PyBUF_WRITABLE && (uintptr_t)view->buf % 8)
        PyErr_Format(PyExc_ValueError, "%s: not aligned", what);
    else
        return 1;
    PyBuffer_Release(view);
    return 0;
}

PyDoc_STRVAR(fold_doc, "fold(events, rows, start, /)\n--\n\n"
             "Turn a list or tuple of bytes into the rows from `start` on; the positions of those that are odd, in order.");

static PyObject *fold(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    if (count != 3)
        return PyErr_Format(PyExc_TypeError, "fold takes events, rows and start, not %zd arguments", count);
    Py_ssize_t start = PyNumber_AsSsize_t(arguments[2], PyExc_ValueError);
    if (start == -1 && PyErr_Occurred())
        return NULL;
    /* A tuple can't change while it is gone through; making the list of odd ones may run anything, by garbage collection. */
    PyObject *events;
    if (PyTuple_Check(arguments[0]))
        events = Py_NewRef(arguments[0]);
    else if (PyList_Check(arguments[0]))
        events = PyList_AsTuple(arguments[0]);
    else
        return PyErr_Format(PyExc_TypeError, "events: a list or tuple is wanted, not %s", Py_TYPE(arguments[0])->tp_name);
    if (!events)
        return NULL;
    PyObject *odd = PyList_New(0);
    Py_buffer rows;
    if (!odd || !words_of(arguments[1], "rows", PyBUF_CONTIG, ROW_WORDS, &rows)) {
        Py_DECREF(events);
        Py_XDECREF(odd);
        return NULL;
    }
    Py_ssize_t size = PyTuple_GET_SIZE(events);
    if (start < 0 || start > rows.shape[0] || size > rows.shape[0] - start) {
        PyErr_Format(PyExc_ValueError, "%zd events do not fit into %zd rows from %zd on", size, rows.shape[0], start);
        goto failed;
    }
    uint64_t *row = (uint64_t *)rows.buf + start * ROW_WORDS;
    for (Py_ssize_t at = 0; at < size; at++, row += ROW_WORDS) {
        if (at + AHEAD < size)
            fetch(PyTuple_GET_ITEM(events, at + AHEAD));
        PyObject *event = PyTuple_GET_ITEM(events, at);
        if (!PyBytes_Check(event)) {
            PyErr_Format(PyExc_TypeError, "events: bytes are wanted, not %s", Py_TYPE(event)->tp_name);
            goto failed;
        }
        if (fold_one((const unsigned char *)PyBytes_AS_STRING(event), (size_t)PyBytes_GET_SIZE(event), row)) {
            PyObject *position = PyLong_FromSsize_t(at);
            if (!position || PyList_Append(odd, position) < 0) {
                Py_XDECREF(position);
                goto failed;
            }
            Py_DECREF(position);
        }
    }
    PyBuffer_Release(&rows);
    Py_DECREF(events);
    return odd;

failed:
    PyBuffer_Release(&rows);
    Py_DECREF(events);
    Py_DECREF(odd);
    return NULL;
}

PyDoc_STRVAR(fold_batch_doc, "fold_batch(batch, rows, start, /)\n--\n\n"
             "Turn the events of an encoded batch into the rows from `start` on: how many they are, and (position, event) of those\n"
             "that are odd, in order. (-1, []): it has to be parsed; nothing was done. More events than rows: nothing was done.");

static PyObject *fold_batch(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    if (count != 3)
        return PyErr_Format(PyExc_TypeError, "fold_batch takes batch, rows and start, not %zd arguments", count);
    Py_ssize_t start = PyNumber_AsSsize_t(arguments[2], PyExc_ValueError);
    if (start == -1 && PyErr_Occurred())
        return NULL;
    Py_buffer batch, rows;
    if (PyObject_GetBuffer(arguments[0], &batch, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *done = NULL, *odd = NULL;
    if (!words_of(arguments[1], "rows", PyBUF_CONTIG, ROW_WORDS, &rows))
        goto no_rows;
    if (start < 0 || start > rows.shape[0]) {
        PyErr_Format(PyExc_ValueError, "of %zd rows none is from %zd on", rows.shape[0], start);
        goto failed;
    }
    odd = PyList_New(0);
    if (!odd)
        goto failed;
    const unsigned char *begin = batch.buf, *end = begin + batch.len, *at = begin, *event;
    size_t size;
    Py_ssize_t events = 0;
    int more;
    uintptr_t asked = (uintptr_t)begin;
    while ((more = next_event(&at, end, &event, &size)) > 0) {
        events++;
        /* Where an event ends is only known when its beginning is here: all is asked for, some way ahead. */
        for (; asked < (uintptr_t)at + AHEAD_BYTES && asked < (uintptr_t)end; asked += LINE_BYTES)
            __builtin_prefetch((const void *)asked);
    }
    if (more < 0)
        events = -1;
    if (events > 0 && events <= rows.shape[0] - start) {
        uint64_t *row = (uint64_t *)rows.buf + start * ROW_WORDS;
        at = begin;
        for (Py_ssize_t position = 0; position < events && next_event(&at, end, &event, &size) > 0; position++, row += ROW_WORDS)
            if (fold_one(event, size, row)) {
                PyObject *entry = Py_BuildValue("(ny#)", position, (const char *)event, (Py_ssize_t)size);
                if (!entry || PyList_Append(odd, entry) < 0) {
                    Py_XDECREF(entry);
                    goto failed;
                }
                Py_DECREF(entry);
            }
    }
    done = Py_BuildValue("(nO)", events, odd);

failed:
    Py_XDECREF(odd);
    PyBuffer_Release(&rows);
no_rows:
    PyBuffer_Release(&batch);
    return done;
}

/* Wherever it lies: what is read may have any stride and alignment. */
static inline uint64_t word_at(const Py_buffer *view, Py_ssize_t at) {
    uint64_t word;
    memcpy(&word, (const char *)view->buf + at * view->strides[0], 8);
    return word;
}

static void add_all(uint64_t *cells, const Py_buffer *keys, const Py_buffer *contents, const Py_buffer *names) {
    for (Py_ssize_t at = 0; at < keys->shape[0]; at++) {
        uint64_t key = word_at(keys, at), element[CELL_WORDS] = {1, key, mix(key ^ CHECK_SALT), word_at(contents, at)};
        const char *name = (const char *)names->buf + at * names->strides[0];
        for (int word = 0; word < NAME_WORDS; word++)
            memcpy(element + 4 + word, name + word * names->strides[1], 8);
        for (int part = 0; part < PARTS; part++) {
            uint64_t *cell = cells + (part * PART_CELLS + ((key >> 16 * part & 0xFFFF) * PART_CELLS >> 16)) * CELL_WORDS;
            for (int word = 0; word < CELL_WORDS; word++)
                cell[word] += element[word];
        }
    }
}

PyDoc_STRVAR(add_doc, "add(cells, keys, contents, names, /)\n--\n\nAdd elements to the cells of a table, in place.");

static PyObject *add(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    if (count != 4)
        return PyErr_Format(PyExc_TypeError, "add takes cells, keys, contents and names, not %zd arguments", count);
    Py_buffer cells, keys, contents, names;
    PyObject *done = NULL;
    if (!words_of(arguments[0], "cells", PyBUF_CONTIG, CELL_WORDS, &cells))
        return NULL;
    if (!words_of(arguments[1], "keys", PyBUF_STRIDED_RO, 0, &keys))
        goto no_keys;
    if (!words_of(arguments[2], "contents", PyBUF_STRIDED_RO, 0, &contents))
        goto no_contents;
    if (!words_of(arguments[3], "names", PyBUF_STRIDED_RO, NAME_WORDS, &names))
        goto no_names;
    if (cells.shape[0] != CELLS)
        PyErr_Format(PyExc_ValueError, "cells: %d are wanted, not %zd", CELLS, cells.shape[0]);
    else if (contents.shape[0] != keys.shape[0] || names.shape[0] != keys.shape[0])
        PyErr_Format(PyExc_ValueError, "%zd keys, %zd contents and %zd names", keys.shape[0], contents.shape[0], names.shape[0]);
    else {
        add_all(cells.buf, &keys, &contents, &names);
        done = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&names);
no_names:
    PyBuffer_Release(&contents);
no_contents:
    PyBuffer_Release(&keys);
no_keys:
    PyBuffer_Release(&cells);
    return done;
}

static PyMethodDef functions[] = {
    {"fold", (PyCFunction)(void (*)(void))fold, METH_FASTCALL, fold_doc},
    {"fold_batch", (PyCFunction)(void (*)(void))fold_batch, METH_FASTCALL, fold_batch_doc},
    {"add", (PyCFunction)(void (*)(void))add, METH_FASTCALL, add_doc},
    {NULL, NULL, 0, NULL},
};

static int begin(PyObject *module) {
    (void)module;
    prepare();
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)begin}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_fold",
    .m_doc = "The ledger's arithmetic; see pipeline/ledger/native.py.",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__fold(void) { return PyModuleDef_Init(&definition); }
