#include "testbase.h"

#include <pthread.h>

void in_threads(int count, void *(*fn)(void *arg), void *arg)
{
    pthread_t threads[64];
    assert_true(count <= (int)COUNT(threads));
    for (int i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fn, arg), 0);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}
