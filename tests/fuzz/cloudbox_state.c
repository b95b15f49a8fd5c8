/* Whatever state.json or a warm execution's note holds: it is refused, or it is what can be used,
 * and says the same when it is printed and read again. */
#include "runner/cloudbox/state.h"
#include "runner/overflow/warm.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void look_at_note(const char *text, size_t len)
{
    struct err err;
    struct warm_note note, again;
    AUTO(buf) struct buf once = BUF_INIT(1u << 16);
    if (warm_parse(text, len, &note, &err)) {
        must(err.code == ERR_UPSTREAM);
        return;
    }
    must(note.closed || (id_is_valid(note.task) && note.attempt >= 0));
    warm_print(&note, &once);
    must(buf_ok(&once) && warm_parse(once.data, once.len, &again, &err) == 0);
    must(again.closed == note.closed && strcmp(again.task, note.task) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    const char *text = (const char *)data;
    AUTO(box_state) struct box_state state = {0}, again = {0};
    AUTO(buf) struct buf once = BUF_INIT(1u << 20), twice = BUF_INIT(1u << 20);
    if (size > 65536)
        return 0;
    look_at_note(text, size);
    if (box_state_parse(text, size, &state, &err)) {
        must(err.code == ERR_UPSTREAM);
        return 0;
    }
    must(state.cwd[0] == '/' && state.layer_count <= BOX_LAYERS_MAX);
    for (size_t i = 0; i < state.layer_count; i++)
        must(id_is_valid(state.layers[i].name) && state.layers[i].bytes >= 0);
    box_state_print(&state, "x", &once);
    must(buf_ok(&once) && box_state_parse(once.data, once.len, &again, &err) == 0);
    box_state_print(&again, "x", &twice);
    must(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    return 0;
}
