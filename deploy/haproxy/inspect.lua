-- What ends tritonserver 2.51, seen at the door: `lua.fault` is why a request is refused, or empty.
--
-- It reads the JSON and the protobuf of inference requests, as far as they lie in HAProxy's buffer. Plain searches come
-- first, so that an ordinary request costs microseconds.

local DEEPEST = 32

-- Whether a text opens more than DEEPEST brackets within each other.
local function is_deep(text)
    local openers, place = 0, 0
    for _, bracket in ipairs({"[", "{"}) do
        place = 0
        repeat
            place = text:find(bracket, place + 1, true)
            openers = openers + (place and 1 or 0)
        until not place or openers > DEEPEST
    end
    if openers <= DEEPEST then return false end
    local depth = 0
    for mark in text:gsub("\\.", ""):gsub('"[^"]*"', ""):gmatch("[%[%]{}]") do
        depth = depth + ((mark == "[" or mark == "{") and 1 or -1)
        if depth > DEEPEST then return true end
    end
    return false
end

-- What is wrong with the shapes of a request of so many bytes, and whether one of them is empty.
local function shape_fault(text, most)
    local place, is_empty = 1, false
    while true do
        local _, last = text:find('"shape"', place, true)
        if not last then return nil, is_empty end
        local shape, product = text:match("^%s*:%s*%[([^%]]*)", last + 1), 1
        for dim in (shape or ""):gmatch("[^,%s]+") do
            local size = dim:match("^%d+$") and tonumber(dim)
            if not size then return "a dimension of a shape is no whole number from 0 on" end
            is_empty, product = is_empty or size == 0, product * math.max(size, 1)
            if product > most then return "a shape has more elements than the request has bytes" end
        end
        place = last + 1
    end
end

local NO_CLASSES = "an output of texts, or one that may be empty, has no classes; ask without classification"

local function json_fault(text, most, classless)
    local place = 0
    repeat
        place = text:find("\\u00", place + 1, true)
        local code = place and tonumber(text:sub(place + 4, place + 5), 16)
        if code and string.char(code):match("[%w_.-]") then return "letters and digits are written as they are, not escaped" end
    until not place
    if is_deep(text) then return "the JSON is nested too deeply" end
    local fault, is_empty = shape_fault(text, most)
    if fault then return fault end
    if text:find('"classification"', 1, true) then
        if not classless or is_empty then return NO_CLASSES end
        for name in classless:gmatch("[^,]+") do
            if text:find('"' .. name .. '"', 1, true) then return NO_CLASSES end
        end
    end
end

local function http_fault(txn, body, classless)
    local headers = txn.http:req_get_headers()
    local lengths = headers["inference-header-content-length"]
    local most = headers["content-length"] and tonumber(headers["content-length"][0]) or #body
    local whole = most
    if lengths then
        local length = lengths[0]:match("^%d+$") and tonumber(lengths[0])
        if lengths[1] or not length or length > whole then return "Inference-Header-Content-Length is no length of a part of the body" end
        whole = length
    end
    if whole > #body then return "the JSON is longer than the door reads; send tensors as binary data behind it" end
    return json_fault(body:sub(1, whole), most, classless)
end

-- A variable-length number of protobuf, and the place behind it.
local function varint(bytes, place)
    local value, shift = 0, 0
    while shift < 64 do
        local byte = bytes:byte(place)
        if not byte then return nil end
        value, place = value | (byte & 127) << shift, place + 1
        if byte < 128 then return value, place end
        shift = shift + 7
    end
end

-- Call `visit` with the number and the content of each field that has a length; returns whether all is protobuf.
local function each_field(bytes, place, visit)
    while place <= #bytes do
        local tag, length
        tag, place = varint(bytes, place)
        local kind = tag and tag & 7
        if kind == 0 then
            tag, place = varint(bytes, place)
            if not tag then return false end
        elseif kind == 2 then
            length, place = varint(bytes, place)
            if not length or length < 0 then return false end
            visit(tag >> 3, bytes, place, place + length - 1)
            place = place + length
        elseif kind == 1 or kind == 5 then
            place = place + (kind == 1 and 8 or 4)
        else
            return false
        end
    end
    return place == #bytes + 1
end

-- The fields of a ModelInferRequest that are texts, or messages with fields of their own, by their numbers.
local TEXT = "text"
local PARAMETER = {[1] = TEXT, [2] = {[3] = TEXT}}
local OUTPUT = {[1] = TEXT, [2] = PARAMETER}
local INPUT = {[1] = TEXT, [2] = TEXT, [4] = PARAMETER, [5] = {}}
local REQUEST = {[1] = TEXT, [2] = TEXT, [3] = TEXT, [4] = PARAMETER, [5] = INPUT, [6] = OUTPUT}

-- Whether bytes are such a message: several at once that are none can end tritonserver.
local function is_message(bytes, place, form)
    local is_good = true
    local is_protobuf = each_field(bytes, place, function(number, _, first, last)
        local inner = form[number]
        if not inner or last > #bytes then return end
        local content = bytes:sub(first, last)
        is_good = is_good and (inner == TEXT and utf8.len(content) or inner ~= TEXT and is_message(content, 1, inner))
    end)
    return is_protobuf and is_good
end

-- A ModelInferRequest begins behind the five bytes of gRPC; its field 1 is the model, 6 an output, whose field 1 is
-- its name.
local function grpc_fault(body, classless)
    local is_whole = #body >= 5 and #body == 5 + string.unpack(">I4", body, 2)
    if is_whole and not is_message(body, 6, REQUEST) then return "the message is no ModelInferRequest" end
    if not body:find("classification", 1, true) then return nil end
    local asked, names, models = false, {}, 0
    local is_protobuf = each_field(body, 6, function(number, bytes, first, last)
        models = models + (number == 1 and 1 or 0)
        if number ~= 6 then return end
        local output = bytes:sub(first, last)
        if not output:find("classification", 1, true) then return end
        asked = true
        each_field(output, 1, function(inner, _, from, to)
            if inner == 1 then names[#names + 1] = output:sub(from, to) end
        end)
    end)
    if is_whole and not is_protobuf or models > 1 then return "the message is no ModelInferRequest" end
    if not asked then return nil end
    if not classless then return NO_CLASSES end
    for _, name in ipairs(names) do
        if ("," .. classless .. ","):find("," .. name .. ",", 1, true) then return NO_CLASSES end
    end
end

core.register_fetches("fault", function(txn)
    local body, classless = txn.f:req_body() or "", txn:get_var("txn.classless")
    if txn:get_var("txn.protocol") == "grpc" then return grpc_fault(body, classless) or "" end
    return http_fault(txn, body, classless) or ""
end)
