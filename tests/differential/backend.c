/* A backend for any model: it answers every request with no outputs, so that a load costs milliseconds and its
   verdict is the config's alone. Declared by hand, because the wheel that carries tritonserver has no headers.
   gcc -shared -fPIC -O1 -o libtriton_NAME.so backend.c */

extern void *TRITONBACKEND_ResponseNew(void **response, void *request);
extern void *TRITONBACKEND_ResponseSend(void *response, unsigned flags, void *error);
extern void *TRITONBACKEND_RequestRelease(void *request, unsigned flags);

static const unsigned FINAL = 1, ALL = 1;

void *TRITONBACKEND_ModelInstanceExecute(void *instance, void **requests, unsigned count)
{
  for (unsigned i = 0; i < count; i++) {
    void *response = 0;
    TRITONBACKEND_ResponseNew(&response, requests[i]);
    TRITONBACKEND_ResponseSend(response, FINAL, 0);
    TRITONBACKEND_RequestRelease(requests[i], ALL);
  }
  return 0;
}
