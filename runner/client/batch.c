#include "runner/client/commands.h"
int client_batch(struct call *call, struct err *err)
{
    (void)call;
    return err_set(err, ERR_NOT_IMPLEMENTED, "soon");
}
