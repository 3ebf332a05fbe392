/* The null model for Triton: answers each request with its own input. In C, so that Triton is measured and not Python.
 *
 * The package that has the server has no headers, so what is used of its C interface (version 1) is declared here. */

#include <stdint.h>
#include <string.h>

typedef struct TRITONSERVER_Error TRITONSERVER_Error;
typedef struct TRITONBACKEND_ModelInstance TRITONBACKEND_ModelInstance;
typedef struct TRITONBACKEND_Request TRITONBACKEND_Request;
typedef struct TRITONBACKEND_Response TRITONBACKEND_Response;
typedef struct TRITONBACKEND_Input TRITONBACKEND_Input;
typedef struct TRITONBACKEND_Output TRITONBACKEND_Output;

enum { FINAL = 1, RELEASE_ALL = 1 };

TRITONSERVER_Error* TRITONBACKEND_ResponseNew(TRITONBACKEND_Response**, TRITONBACKEND_Request*);
TRITONSERVER_Error* TRITONBACKEND_RequestInputByIndex(TRITONBACKEND_Request*, uint32_t, TRITONBACKEND_Input**);
TRITONSERVER_Error* TRITONBACKEND_InputProperties(
    TRITONBACKEND_Input*, const char**, int*, const int64_t**, uint32_t*, uint64_t*, uint32_t*);
TRITONSERVER_Error* TRITONBACKEND_InputBuffer(
    TRITONBACKEND_Input*, uint32_t, const void**, uint64_t*, int*, int64_t*);
TRITONSERVER_Error* TRITONBACKEND_ResponseOutput(
    TRITONBACKEND_Response*, TRITONBACKEND_Output**, const char*, int, const int64_t*, uint32_t);
TRITONSERVER_Error* TRITONBACKEND_OutputBuffer(TRITONBACKEND_Output*, void**, uint64_t, int*, int64_t*);
TRITONSERVER_Error* TRITONBACKEND_ResponseSend(TRITONBACKEND_Response*, uint32_t, TRITONSERVER_Error*);
TRITONSERVER_Error* TRITONBACKEND_RequestRelease(TRITONBACKEND_Request*, uint32_t);

static TRITONSERVER_Error* answer(TRITONBACKEND_Request* request, TRITONBACKEND_Response* response) {
  TRITONBACKEND_Input* input;
  TRITONSERVER_Error* error = TRITONBACKEND_RequestInputByIndex(request, 0, &input);
  if (error) return error;
  const char* name;
  const int64_t* shape;
  int datatype, memory = 0;
  uint32_t dims, buffers;
  uint64_t bytes;
  error = TRITONBACKEND_InputProperties(input, &name, &datatype, &shape, &dims, &bytes, &buffers);
  if (error) return error;
  TRITONBACKEND_Output* output;
  error = TRITONBACKEND_ResponseOutput(response, &output, "y", datatype, shape, dims);
  if (error) return error;
  void* to;
  int64_t place = 0;
  error = TRITONBACKEND_OutputBuffer(output, &to, bytes, &memory, &place);
  if (error) return error;
  for (uint32_t i = 0; i < buffers; i++) {
    const void* from;
    uint64_t part;
    error = TRITONBACKEND_InputBuffer(input, i, &from, &part, &memory, &place);
    if (error) return error;
    memcpy(to, from, part);
    to = (char*)to + part;
  }
  return 0;
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, uint32_t count) {
  (void)instance;
  for (uint32_t i = 0; i < count; i++) {
    TRITONBACKEND_Response* response;
    if (!TRITONBACKEND_ResponseNew(&response, requests[i])) {
      TRITONSERVER_Error* error = answer(requests[i], response);
      TRITONBACKEND_ResponseSend(response, FINAL, error);
    }
    TRITONBACKEND_RequestRelease(requests[i], RELEASE_ALL);
  }
  return 0;
}
