// Errors: exceptions inside the backend, values at the C border.
#pragma once

#include <c10/util/Exception.h>

#include <exception>
#include <stdexcept>
#include <string>

#include "triton.h"

// What a caller or the server's log is told, with Triton's error code.
struct Failure : std::runtime_error {
  Failure(TRITONSERVER_Error_Code code, const std::string& message) : std::runtime_error(message), code(code) {}
  TRITONSERVER_Error_Code code;
};

inline Failure invalid(const std::string& message) { return Failure(INVALID_ARG, message); }

// What an exception says, without the frames of C++ that torch's errors carry: a caller cannot use them.
inline std::string message_of(const std::exception& error) {
  const auto* torchs = dynamic_cast<const c10::Error*>(&error);
  return torchs ? torchs->what_without_backtrace() : error.what();
}

// For calls whose failure leaves nothing to be done.
inline void ignore(Error* error) {
  if (error) TRITONSERVER_ErrorDelete(error);
}

// Turns an error of Triton's API into an exception.
inline void check(Error* error) {
  if (!error) return;
  std::string message = TRITONSERVER_ErrorMessage(error);
  ignore(error);
  throw Failure(INTERNAL, message);
}

// Runs a body that may throw; an exception becomes an error value, which the caller owns. The prefix goes before
// messages that are not our own.
template <class Body>
Error* guarded(Body body, const char* prefix = "") noexcept {
  try {
    body();
    return nullptr;
  } catch (const Failure& failure) {
    return TRITONSERVER_ErrorNew(failure.code, failure.what());
  } catch (const std::exception& error) {
    return TRITONSERVER_ErrorNew(INTERNAL, (prefix + message_of(error)).c_str());
  } catch (...) {
    return TRITONSERVER_ErrorNew(INTERNAL, "unknown exception");
  }
}
