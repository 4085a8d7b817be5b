// Just enough JSON to read a model configuration as Triton serializes it. Triton writes it and keeps it well-formed;
// neither torch's nor protobuf's wheels carry a JSON library that could be used instead.
#pragma once

#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

class Json {
 public:
  std::string text;  // of a string, a number or a literal
  std::vector<Json> items;
  std::map<std::string, Json> members;

  explicit operator bool() const { return !text.empty() || !items.empty() || !members.empty(); }
  bool has(const std::string& key) const { return members.count(key) > 0; }
  int64_t number() const { return std::strtoll(text.c_str(), nullptr, 10); }
  const Json& operator[](const std::string& key) const {
    static const Json nothing;
    auto member = members.find(key);
    return member == members.end() ? nothing : member->second;
  }

  static Json parse(std::string_view text) {
    Cursor cursor{text.data(), text.data() + text.size()};
    return value(cursor);
  }

 private:
  struct Cursor {
    const char* at;
    const char* end;

    char peek() {
      while (at != end && std::strchr(" \n\t\r", *at)) ++at;
      if (at == end) throw std::runtime_error("the model configuration ends early");
      return *at;
    }
    void expect(char wanted) {
      if (peek() != wanted) throw std::runtime_error(std::string("the model configuration lacks a ") + wanted);
      ++at;
    }
    // Moves to the next element of an object or an array; false at its end, which is consumed.
    bool next(char closing) {
      if (peek() == ',') ++at;
      if (peek() != closing) return true;
      ++at;
      return false;
    }
  };

  static Json value(Cursor& cursor) {
    Json parsed;
    switch (cursor.peek()) {
      case '{':
        for (++cursor.at; cursor.next('}');) {
          std::string key = string(cursor);
          cursor.expect(':');
          parsed.members.emplace(std::move(key), value(cursor));
        }
        break;
      case '[':
        for (++cursor.at; cursor.next(']');) parsed.items.push_back(value(cursor));
        break;
      case '"':
        parsed.text = string(cursor);
        break;
      default:
        while (cursor.at != cursor.end && !std::strchr(",]} \n\t\r", *cursor.at)) parsed.text += *cursor.at++;
    }
    return parsed;
  }

  static std::string string(Cursor& cursor) {
    cursor.expect('"');
    std::string text;
    while (cursor.at != cursor.end && *cursor.at != '"') text += *cursor.at == '\\' ? escaped(cursor) : one(cursor);
    cursor.expect('"');
    return text;
  }

  static std::string one(Cursor& cursor) { return std::string(1, *cursor.at++); }

  static std::string escaped(Cursor& cursor) {
    if (cursor.end - cursor.at < 2) throw std::runtime_error("the model configuration ends within an escape");
    char kind = cursor.at[1];
    cursor.at += 2;
    if (kind == 'u') return code_point(cursor);
    static const std::map<char, char> controls{{'n', '\n'}, {'t', '\t'}, {'r', '\r'}, {'b', '\b'}, {'f', '\f'}};
    auto control = controls.find(kind);
    return std::string(1, control == controls.end() ? kind : control->second);
  }

  // \uXXXX as UTF-8; Triton escapes control characters only, so that no surrogate pairs occur.
  static std::string code_point(Cursor& cursor) {
    if (cursor.end - cursor.at < 4) throw std::runtime_error("the model configuration ends within an escape");
    auto point = std::strtoul(std::string(cursor.at, 4).c_str(), nullptr, 16);
    cursor.at += 4;
    if (point < 0x80) return {char(point)};
    if (point < 0x800) return {char(0xC0 | point >> 6), char(0x80 | (point & 0x3F))};
    return {char(0xE0 | point >> 12), char(0x80 | (point >> 6 & 0x3F)), char(0x80 | (point & 0x3F))};
  }
};
