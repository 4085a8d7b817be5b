// Just enough JSON to read a model configuration as Triton serializes it. Triton writes it and keeps it well-formed;
// neither torch's nor protobuf's wheels carry a JSON library that could be used instead.
#pragma once

#include <algorithm>
#include <cstdlib>
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

  bool has(const std::string& key) const { return members.count(key) > 0; }
  int64_t number() const { return std::strtoll(text.c_str(), nullptr, 10); }
  const Json& operator[](const std::string& key) const {
    static const Json nothing;
    auto member = members.find(key);
    return member == members.end() ? nothing : member->second;
  }

  static Json parse(std::string_view text) {
    Cursor cursor{text};
    return value(cursor);
  }

 private:
  struct Cursor {
    std::string_view rest;

    char take() {
      if (rest.empty()) throw std::runtime_error("the model configuration ends early");
      char taken = rest.front();
      rest.remove_prefix(1);
      return taken;
    }
    // Skips white space.
    bool at(char wanted) {
      rest.remove_prefix(std::min(rest.find_first_not_of(" \n\t\r"), rest.size()));
      return !rest.empty() && rest.front() == wanted;
    }
    bool take(char wanted) { return at(wanted) && take(); }
    void expect(char wanted) {
      if (!take(wanted)) throw std::runtime_error(std::string("the model configuration lacks a ") + wanted);
    }
  };

  static Json value(Cursor& cursor) {
    Json parsed;
    if (cursor.take('{')) {
      for (; !cursor.take('}'); cursor.take(',')) {
        std::string key = string(cursor);
        cursor.expect(':');
        parsed.members.emplace(std::move(key), value(cursor));
      }
    } else if (cursor.take('[')) {
      for (; !cursor.take(']'); cursor.take(',')) parsed.items.push_back(value(cursor));
    } else if (cursor.at('"')) {
      parsed.text = string(cursor);
    } else {
      parsed.text = cursor.rest.substr(0, cursor.rest.find_first_of(",:]} \n\t\r"));
      if (parsed.text.empty()) throw std::runtime_error("the model configuration lacks a value");
      cursor.rest.remove_prefix(parsed.text.size());
    }
    return parsed;
  }

  static std::string string(Cursor& cursor) {
    cursor.expect('"');
    std::string text;
    for (char next = cursor.take(); next != '"'; next = cursor.take())
      text += next == '\\' ? escaped(cursor) : std::string(1, next);
    return text;
  }

  static std::string escaped(Cursor& cursor) {
    char kind = cursor.take();
    size_t control = std::string_view("ntrbf").find(kind);
    if (control != std::string_view::npos) return {"\n\t\r\b\f"[control]};
    if (kind != 'u') return {kind};
    // \uXXXX as UTF-8; Triton escapes control characters only, so that no surrogate pairs occur.
    std::string digits{cursor.take(), cursor.take(), cursor.take(), cursor.take()};
    auto point = std::strtoul(digits.c_str(), nullptr, 16);
    if (point < 0x80) return {char(point)};
    if (point < 0x800) return {char(0xC0 | point >> 6), char(0x80 | (point & 0x3F))};
    return {char(0xE0 | point >> 12), char(0x80 | (point >> 6 & 0x3F)), char(0x80 | (point & 0x3F))};
  }
};
