/* What the host asks of the device, in order. It is done as late as a GPU may do it: when the
 * host waits, or when a call of the runtime waits by itself. So host memory that is used again
 * too early shows, as does a kernel's error that nobody asks for. While a stream is captured,
 * what is asked of it becomes a graph instead, which each launch asks for again. */
#ifndef KVBUDGET_TESTS_PTX_STREAM_H
#define KVBUDGET_TESTS_PTX_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include <cuda_runtime_api.h>

/* `run` gets a copy of `state` (aligned for anything), each time it is done. */
void stream_ask(cudaStream_t s, void (*run)(const void *state), const void *state,
                size_t bytes);

/* Does all that was asked. */
void stream_finish(void);

/* True while a stream is captured: what would wait for it, or for all of the device, is an
 * error and ends the capture (CUDA C++ Programming Guide, prohibited and unhandled
 * operations). */
bool stream_forbids(void);

/* Notes an error for cudaGetLastError and gives it back; a fault stays. */
cudaError_t cudart_said(cudaError_t e);

#endif
