-- What a team would write that signs in nginx, v1 and v2, with keys that are
-- always at hand. It retries nothing, remembers nothing and reads no Vault.

local cjson = require "cjson.safe"
local ffi = require "ffi"
local keys = require "keys"

ffi.cdef [[
void *HMAC_CTX_new(void);
int HMAC_Init_ex(void *ctx, const void *key, int len, const void *md, void *impl);
int HMAC_Update(void *ctx, const char *data, size_t len);
int HMAC_Final(void *ctx, unsigned char *md, unsigned int *len);
const void *EVP_sha256(void);
unsigned char *ngx_hex_dump(unsigned char *dst, const unsigned char *src, size_t len);
]]

local C = ffi.C
local sha256 = C.EVP_sha256()
local mac = ffi.new("unsigned char[32]")
local hex = ffi.new("unsigned char[64]")

local function context(key)
	local ctx = C.HMAC_CTX_new()
	C.HMAC_Init_ex(ctx, key, #key, sha256, nil)
	return ctx
end

-- A context keeps its key until it gets another one.
local app_context = context(keys.midas_key)
local player_context = context("any")

local function finish(ctx, text)
	C.HMAC_Update(ctx, text, #text)
	C.HMAC_Final(ctx, mac, nil)
	C.ngx_hex_dump(hex, mac, 32)
	return ffi.string(hex, 64)
end

local function joined(fields)
	local names, n = {}, 0
	for name in pairs(fields) do
		n = n + 1
		names[n] = name
	end
	table.sort(names)
	for i = 1, n do
		names[i] = names[i] .. "=" .. fields[names[i]]
	end
	return table.concat(names, "&")
end

return function()
	ngx.req.read_body()
	local order = cjson.decode(ngx.req.get_body_data() or "")
	if type(order) ~= "table" then
		return ngx.exit(400)
	end
	local session_key = keys.sessions[order.openid]
	if not session_key then
		return ngx.exit(401)
	end
	local path = ngx.var.uri
	order.offer_id, order.zone_id, order.ts = keys.offer_id, "1", ngx.time()
	C.HMAC_Init_ex(app_context, nil, 0, nil, nil)
	C.HMAC_Init_ex(player_context, session_key, #session_key, sha256, nil)

	if path == "/wxa/game/pay" then
		order.env = 0
		local body = cjson.encode(order)
		ngx.req.set_uri_args("access_token=" .. keys.access_token .. "&signature=" .. finish(player_context, body) ..
			"&sig_method=hmac_sha256&pay_sig=" .. finish(app_context, path .. "&" .. body))
		ngx.req.set_body_data(body)
		return
	end

	order.appid, order.pf = keys.appid, "android"
	local sig = finish(app_context, joined(order) .. "&org_loc=" .. path .. "&method=POST&secret=" .. keys.midas_key)

	order.sig, order.access_token = sig, keys.access_token
	local mp_sig = finish(player_context, joined(order) .. "&org_loc=" .. path .. "&method=POST&session_key=" .. session_key)

	order.mp_sig, order.access_token = mp_sig, nil
	ngx.req.set_uri_args("access_token=" .. keys.access_token)
	ngx.req.set_body_data(cjson.encode(order))
end
