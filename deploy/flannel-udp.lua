-- Shows the packets inside flannel's udp tunnel in Wireshark and tshark: the payload of a datagram on UDP port 8285 is one
-- IPv4 packet, with nothing before it.
--
--   tshark -X lua_script:flannel-udp.lua -r capture.pcapng
--   wireshark -X lua_script:flannel-udp.lua
--
-- or put this file into Wireshark's folder of personal plugins (Help, About Wireshark, Folders). The port of a network
-- with another Backend.Port: Preferences, Protocols, FLANNEL_UDP, or -o flannel_udp.port:9000.

local flannel = Proto("flannel_udp", "flannel udp tunnel")

flannel.prefs.port = Pref.uint("UDP port", 8285, "Backend.Port of the network's configuration")

local payload = ProtoField.bytes("flannel_udp.payload", "Payload that is no IPv4 packet")
local length = ProtoField.uint32("flannel_udp.length", "Length of the inner packet")
flannel.fields = { payload, length }

local not_ipv4 = ProtoExpert.new("flannel_udp.not_ipv4", "The tunnel carries nothing but IPv4",
  expert.group.MALFORMED, expert.severity.ERROR)
flannel.experts = { not_ipv4 }

local ip = Dissector.get("ip")

function flannel.dissector(buffer, packet_info, tree)
  local bytes = buffer:len()
  local subtree = tree:add(flannel, buffer(), "flannel udp tunnel")
  if bytes < 20 or buffer(0, 1):bitfield(0, 4) ~= 4 then
    packet_info.cols.protocol = "flannel"
    subtree:add(payload, buffer()):add_proto_expert_info(not_ipv4)
    return bytes
  end
  subtree:add(length, buffer(2, 2)):set_generated()
  return ip:call(buffer, packet_info, tree)
end

local ports = DissectorTable.get("udp.port")
local port = flannel.prefs.port
ports:add(port, flannel)

function flannel.prefs_changed()
  if port == flannel.prefs.port then return end
  ports:remove(port, flannel)
  port = flannel.prefs.port
  ports:add(port, flannel)
end
