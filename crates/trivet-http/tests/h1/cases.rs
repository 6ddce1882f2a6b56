//! A table of HTTP/1.1 streams and what the codec makes of them, each also cut at every byte and at random.
//!
//! The ideas come from what public conformance and smuggling suites try (h1spec, HTTP Garden, Http11Probe and the
//! advisories behind them); every stream is written for this table. Where suites or readings of the RFC disagree,
//! `docs/http1-conformance.md` says what is chosen and why.
//!
//! A verdict is one line for each message of the stream: the request with what was decided about it, `STATUS
//! reason` for a refusal, `more` when the bytes end inside a message.

use proptest::prelude::*;

use crate::stream::{head_fields, verdict, verdict_in_pieces};

/// Name, bytes, verdict.
type Case = (&'static str, &'static [u8], &'static str);

#[rustfmt::skip] // one line for each case
const HEADS: &[Case] = &[
    // plain requests
    ("get", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / 1.1 @a keep"),
    ("get_path_query", b"GET /x/y?z=1&w HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", "GET /x/y?z=1&w 1.1 @a.example:8080 keep"),
    ("head", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD / 1.1 @a keep head"),
    ("http10", b"GET / HTTP/1.0\r\n\r\n", "GET / 1.0 @ close"),
    ("http10_host", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET / 1.0 @a close"),
    ("http10_keep_alive", b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET / 1.0 @ keep"),
    ("http10_keep_alive_and_close", b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "GET / 1.0 @ close"),
    ("pipelined", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /1 1.1 @a keep; GET /2 1.1 @a keep"),
    ("close_then_nothing_read", b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /1 1.1 @a close"),
    ("field_name_case", b"GET / HTTP/1.1\r\nhOsT: a\r\nCONTENT-LENGTH: 2\r\n\r\nhi", "GET / 1.1 @a keep length=2 'hi'"),
    ("tab_after_colon", b"GET / HTTP/1.1\r\nHost:\ta\r\n\r\n", "GET / 1.1 @a keep"),
    ("no_space_after_colon", b"GET / HTTP/1.1\r\nHost:a\r\n\r\n", "GET / 1.1 @a keep"),
    ("spaces_around_value", b"GET / HTTP/1.1\r\nHost: \t a \t \r\n\r\n", "GET / 1.1 @a keep"),
    ("empty_value", b"GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Blank:  \t\r\n\r\n", "GET / 1.1 @a keep"),
    ("tab_inside_value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\tb\tc\r\n\r\n", "GET / 1.1 @a keep"),
    ("obs_text_in_value", b"GET / HTTP/1.1\r\nHost: a\r\nX: caf\xe9 \xff\x80\r\n\r\n", "GET / 1.1 @a keep"),
    ("every_token_byte_in_name", b"GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09azAZ: v\r\n\r\n", "GET / 1.1 @a keep"),
    ("one_byte_name", b"GET / HTTP/1.1\r\nHost: a\r\nX: v\r\n\r\n", "GET / 1.1 @a keep"),
    ("colons_in_value", b"GET / HTTP/1.1\r\nHost: a\r\nX:: v:\r\n\r\n", "GET / 1.1 @a keep"),
    ("head_cut_in_request_line", b"GET / HT", "more"),
    ("head_cut_in_name", b"GET / HTTP/1.1\r\nHos", "more"),
    ("head_cut_in_value", b"GET / HTTP/1.1\r\nHost: a", "more"),
    ("head_cut_in_crlf", b"GET / HTTP/1.1\r\nHost: a\r", "more"),
    ("head_cut_before_empty_line", b"GET / HTTP/1.1\r\nHost: a\r\n", "more"),
    ("head_cut_in_empty_line", b"GET / HTTP/1.1\r\nHost: a\r\n\r", "more"),
    ("nothing", b"", "more"),
    // methods (W52, H12)
    ("method_lower_case", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", "get / 1.1 @a keep"),
    ("method_own", b"PURGE /x HTTP/1.1\r\nHost: a\r\n\r\n", "PURGE /x 1.1 @a keep"),
    ("method_symbols", b"M-SEARCH!_~ / HTTP/1.1\r\nHost: a\r\n\r\n", "M-SEARCH!_~ / 1.1 @a keep"),
    ("method_trace", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "501 method.trace"),
    ("method_trace_with_body", b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", "501 method.trace"),
    ("method_connect", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "501 method.connect"),
    ("method_connect_origin_form", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", "501 method.connect"),
    ("method_connect_lower_case", b"connect / HTTP/1.1\r\nHost: a\r\n\r\n", "connect / 1.1 @a keep"),
    ("method_with_brackets", b"G[E]T / HTTP/1.1\r\nHost: a\r\n\r\n", "400 method.syntax"),
    ("method_with_colon", b"GET: / HTTP/1.1\r\nHost: a\r\n\r\n", "400 method.syntax"),
    ("method_with_nul", b"GE\0T / HTTP/1.1\r\nHost: a\r\n\r\n", "400 method.syntax"),
    ("method_non_ascii", b"G\xc9T / HTTP/1.1\r\nHost: a\r\n\r\n", "400 method.syntax"),
    ("method_then_tab", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 method.syntax"),
    ("binary_noise", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400 method.syntax"),
    // the request line (H5)
    ("leading_crlf", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / 1.1 @a keep"),
    ("two_leading_crlf", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 request_line.empty"),
    ("leading_lf", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 line.bare_lf"),
    ("leading_cr", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 line.bare_cr"),
    ("leading_space", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 request_line.leading_space"),
    ("only_a_space_line", b" \r\n\r\n", "400 request_line.leading_space"),
    ("crlf_between_pipelined", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /1 1.1 @a keep; GET /2 1.1 @a keep"),
    ("two_spaces_before_target", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400 request_line.spaces"),
    ("two_spaces_before_version", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "400 request_line.spaces"),
    ("tab_before_version", b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", "400 target.control"),
    ("vertical_tab_before_version", b"GET /\x0bHTTP/1.1\r\nHost: a\r\n\r\n", "400 target.control"),
    ("space_after_version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "400 request_line.trailing_space"),
    ("words_after_version", b"GET / HTTP/1.1 x\r\nHost: a\r\n\r\n", "400 request_line.trailing_space"),
    ("space_in_target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "400 version.syntax"),
    ("target_missing", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", "400 request_line.version_missing"),
    ("target_and_version_missing", b"GET\r\nHost: a\r\n\r\n", "400 request_line.target_missing"),
    ("http09", b"GET /\r\n\r\n", "400 request_line.version_missing"),
    ("http09_with_space", b"GET / \r\n\r\n", "400 request_line.version_missing"),
    ("version_1_2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "505 version.unsupported"),
    ("version_2_0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505 version.unsupported"),
    ("version_9_9", b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", "505 version.unsupported"),
    ("version_0_9", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", "505 version.unsupported"),
    ("h2_preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 version.unsupported"),
    ("version_no_minor", b"GET / HTTP/1\r\nHost: a\r\n\r\n", "400 version.syntax"),
    ("version_two_digits", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", "400 version.syntax"),
    ("version_leading_zero", b"GET / HTTP/01.1\r\nHost: a\r\n\r\n", "400 version.syntax"),
    ("version_space_inside", b"GET / HTTP/ 1.1\r\nHost: a\r\n\r\n", "400 version.syntax"),
    ("version_lower_case", b"GET / http/1.1\r\nHost: a\r\n\r\n", "400 version.syntax"),
    ("version_comma", b"GET / HTTP/1,1\r\nHost: a\r\n\r\n", "400 version.syntax"),
    ("version_other_protocol", b"OPTIONS / RTSP/1.0\r\nHost: a\r\n\r\n", "400 version.syntax"),
    // line ends (H4)
    ("bare_lf_request_line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", "400 line.bare_lf"),
    ("bare_lf_field", b"GET / HTTP/1.1\r\nHost: a\n\r\n", "400 line.bare_lf"),
    ("bare_lf_empty_line", b"GET / HTTP/1.1\r\nHost: a\r\n\n", "400 line.bare_lf"),
    ("bare_lf_everywhere", b"GET / HTTP/1.1\nHost: a\n\n", "400 line.bare_lf"),
    ("bare_lf_in_name", b"GET / HTTP/1.1\r\nHo\nst: a\r\n\r\n", "400 line.bare_lf"),
    ("bare_cr_request_line", b"GET / HTTP/1.1\rHost: a\r\n\r\n", "400 line.bare_cr"),
    ("bare_cr_in_target", b"GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n", "400 request_line.version_missing"),
    ("bare_cr_field", b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "400 line.bare_cr"),
    ("bare_cr_in_value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "400 line.bare_cr"),
    ("bare_cr_before_name", b"GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n", "400 line.bare_cr"),
    ("bare_cr_empty_line", b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", "400 line.bare_cr"),
    ("cr_cr_lf", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "400 line.bare_cr"),
    // field lines (H4)
    ("space_before_colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400 field.space_before_colon"),
    ("tab_before_colon", b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", "400 field.space_before_colon"),
    ("space_before_colon_te", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400 field.space_before_colon"),
    ("space_in_name", b"GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", "400 field.space_before_colon"),
    ("tab_in_name", b"GET / HTTP/1.1\r\nHost: a\r\nX\tY: b\r\n\r\n", "400 field.space_before_colon"),
    ("leading_space_first_field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400 field.leading_space"),
    ("leading_tab_first_field", b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", "400 field.leading_space"),
    ("obs_fold", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "400 field.folded"),
    ("obs_fold_tab", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", "400 field.folded"),
    ("obs_fold_te", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400 field.folded"),
    ("blank_line_of_spaces", b"GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", "400 field.folded"),
    ("empty_name", b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "400 field.name_empty"),
    ("no_colon", b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", "400 field.no_colon"),
    ("name_brackets", b"GET / HTTP/1.1\r\nHost: a\r\nX[]: b\r\n\r\n", "400 field.name"),
    ("name_slash", b"GET / HTTP/1.1\r\nHost: a\r\nX/Y: b\r\n\r\n", "400 field.name"),
    ("name_nul", b"GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", "400 field.name"),
    ("name_non_ascii", b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: b\r\n\r\n", "400 field.name"),
    ("name_quote", b"GET / HTTP/1.1\r\nHost: a\r\n\"X\": b\r\n\r\n", "400 field.name"),
    ("value_nul", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "400 field.value_control"),
    ("value_bell", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x07\r\n\r\n", "400 field.value_control"),
    ("value_escape", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[31mred\r\n\r\n", "400 field.value_control"),
    ("value_del", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", "400 field.value_control"),
    ("value_vertical_tab", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x0bb\r\n\r\n", "400 field.value_control"),
    // targets (H7) and Host (H3)
    ("target_fragment", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "400 target.fragment"),
    ("target_nul", b"GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n", "400 target.control"),
    ("target_del", b"GET /a\x7f HTTP/1.1\r\nHost: a\r\n\r\n", "400 target.control"),
    ("target_non_ascii", b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", "400 target.non_ascii"),
    ("target_overlong_utf8", b"GET /\xc0\xaf HTTP/1.1\r\nHost: a\r\n\r\n", "400 target.non_ascii"),
    ("target_backslash", b"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a\\b 1.1 @a keep"),
    ("target_unwise_bytes", b"GET /{a}|\"<>^`? HTTP/1.1\r\nHost: a\r\n\r\n", "GET /{a}|\"<>^`? 1.1 @a keep"),
    ("target_escapes_untouched", b"GET /%00%0d%zz HTTP/1.1\r\nHost: a\r\n\r\n", "GET /%00%0d%zz 1.1 @a keep"),
    ("target_two_slashes", b"GET //x//y HTTP/1.1\r\nHost: a\r\n\r\n", "GET //x//y 1.1 @a keep"),
    ("target_no_slash", b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", "400 target.form"),
    ("target_query_alone", b"GET ?x HTTP/1.1\r\nHost: a\r\n\r\n", "400 target.form"),
    ("target_authority_form", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "400 target.form"),
    ("target_asterisk", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * 1.1 @a keep"),
    ("target_asterisk_get", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400 target.asterisk"),
    ("target_asterisk_and_more", b"OPTIONS *x HTTP/1.1\r\nHost: a\r\n\r\n", "400 target.form"),
    ("absolute", b"GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x?y 1.1 @a keep"),
    ("absolute_other_host", b"GET http://b:81/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x 1.1 @b:81 keep"),
    ("absolute_no_host", b"GET http://b/ HTTP/1.1\r\n\r\n", "400 host.missing"),
    ("absolute_bad_host", b"GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n", "400 host.invalid"),
    ("absolute_http10_no_host", b"GET http://b/ HTTP/1.0\r\n\r\n", "GET / 1.0 @b close"),
    ("absolute_no_path", b"GET http://b HTTP/1.1\r\nHost: b\r\n\r\n", "GET [/] 1.1 @b keep"),
    ("absolute_query_no_path", b"GET http://b?q HTTP/1.1\r\nHost: b\r\n\r\n", "GET [/]?q 1.1 @b keep"),
    ("absolute_scheme_case", b"GET HTTP://B/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET / 1.1 @B keep"),
    ("absolute_https", b"GET https://b/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET / 1.1 @b keep"),
    ("absolute_ftp", b"GET ftp://b/ HTTP/1.1\r\nHost: b\r\n\r\n", "400 target.form"),
    ("absolute_empty_authority", b"GET http:///x HTTP/1.1\r\nHost: b\r\n\r\n", "400 target.authority"),
    ("absolute_userinfo", b"GET http://u:p@b/ HTTP/1.1\r\nHost: b\r\n\r\n", "400 target.authority"),
    ("absolute_backslash", b"GET http://b\\c/ HTTP/1.1\r\nHost: b\r\n\r\n", "400 target.authority"),
    ("absolute_one_slash", b"GET http:/b HTTP/1.1\r\nHost: b\r\n\r\n", "400 target.form"),
    ("host_missing", b"GET / HTTP/1.1\r\n\r\n", "400 host.missing"),
    ("host_missing_with_others", b"GET / HTTP/1.1\r\nX: y\r\n\r\n", "400 host.missing"),
    ("host_empty", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "400 host.invalid"),
    ("host_repeated", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 host.repeated"),
    ("host_repeated_same", b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", "400 host.repeated"),
    ("host_repeated_http10", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "400 host.repeated"),
    ("host_comma", b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "400 host.invalid"),
    ("host_userinfo", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "400 host.invalid"),
    ("host_path", b"GET / HTTP/1.1\r\nHost: a/x\r\n\r\n", "400 host.invalid"),
    ("host_url", b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", "400 host.invalid"),
    ("host_space", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400 host.invalid"),
    ("host_percent", b"GET / HTTP/1.1\r\nHost: a%20b\r\n\r\n", "400 host.invalid"),
    ("host_non_ascii", b"GET / HTTP/1.1\r\nHost: caf\xe9\r\n\r\n", "400 host.invalid"),
    ("host_port_letters", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "400 host.invalid"),
    ("host_port_sign", b"GET / HTTP/1.1\r\nHost: a:+1\r\n\r\n", "400 host.invalid"),
    ("host_port_too_large", b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", "400 host.invalid"),
    ("host_port_largest", b"GET / HTTP/1.1\r\nHost: a:65535\r\n\r\n", "GET / 1.1 @a:65535 keep"),
    ("host_port_empty", b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "GET / 1.1 @a: keep"),
    ("host_two_ports", b"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", "400 host.invalid"),
    ("host_port_alone", b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", "400 host.invalid"),
    ("host_underscore", b"GET / HTTP/1.1\r\nHost: my_app.local\r\n\r\n", "GET / 1.1 @my_app.local keep"),
    ("host_ipv4", b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n", "GET / 1.1 @127.0.0.1:8000 keep"),
    ("host_ipv6", b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:8000\r\n\r\n", "GET / 1.1 @[2001:db8::1]:8000 keep"),
    ("host_ipv6_mapped", b"GET / HTTP/1.1\r\nHost: [::ffff:1.2.3.4]\r\n\r\n", "GET / 1.1 @[::ffff:1.2.3.4] keep"),
    ("host_ipv6_open", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "400 host.invalid"),
    ("host_ipv6_bare", b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", "400 host.invalid"),
    ("host_ipv6_zone", b"GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", "400 host.invalid"),
    ("host_ipv6_and_more", b"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", "400 host.invalid"),
    // framing (H1, H2)
    ("length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "POST / 1.1 @a keep length=5 'hello'"),
    ("length_zero", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST / 1.1 @a keep length=0 ''"),
    ("length_on_get", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "GET / 1.1 @a keep length=2 'hi'; GET /2 1.1 @a keep"),
    ("length_on_head", b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", "HEAD / 1.1 @a keep head length=2 'hi'"),
    ("length_on_http10", b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", "POST / 1.0 @ close length=2 'hi'"),
    ("length_body_cut", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel", "POST / 1.1 @a keep length=5 'hel' more"),
    ("post_without_length", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / 1.1 @a keep"),
    ("length_spaces_around", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \t 2  \r\n\r\nhi", "POST / 1.1 @a keep length=2 'hi'"),
    ("length_empty", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "400 smuggling.length"),
    ("length_plus", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", "400 smuggling.length"),
    ("length_minus", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400 smuggling.length"),
    ("length_minus_zero", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -0\r\n\r\n", "400 smuggling.length"),
    ("length_hex", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", "400 smuggling.length"),
    ("length_octal", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0o5\r\n\r\nhello", "400 smuggling.length"),
    ("length_underscore", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n", "400 smuggling.length"),
    ("length_inner_space", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 0\r\n\r\n", "400 smuggling.length"),
    ("length_point", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nhello", "400 smuggling.length"),
    ("length_words", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\n", "400 smuggling.length"),
    ("length_list_same", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", "400 smuggling.length"),
    ("length_list_other", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5,6\r\n\r\nhello", "400 smuggling.length"),
    ("length_leading_zero", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 05\r\n\r\nhello", "400 smuggling.length"),
    ("length_double_zero", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00\r\n\r\n", "400 smuggling.length"),
    ("length_largest", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n", "POST / 1.1 @a keep length=18446744073709551615 '' more"),
    ("length_overflow", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", "400 smuggling.length"),
    ("length_overflow_far", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999999\r\n\r\n", "400 smuggling.length"),
    ("length_arabic_digits", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \u{665}\r\n\r\n".as_bytes(), "400 smuggling.length"),
    ("length_twice_other", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400 smuggling.lengths"),
    ("length_twice_same", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400 smuggling.lengths"),
    ("length_underscore_name", b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n", "POST / 1.1 @a keep"),
    ("length_and_coding", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 smuggling.length_and_encoding"),
    ("coding_and_length", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400 smuggling.length_and_encoding"),
    ("coding_case", b"POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: ChUnKeD\r\n\r\n0\r\n\r\n", "POST / 1.1 @a keep chunked ''"),
    ("coding_tab", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\t\r\n\r\n0\r\n\r\n", "POST / 1.1 @a keep chunked ''"),
    ("coding_twice", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 smuggling.encodings"),
    ("coding_list_twice", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "400 smuggling.encoding"),
    ("coding_identity", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", "400 smuggling.encoding"),
    ("coding_gzip", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "400 smuggling.encoding"),
    ("coding_gzip_chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400 smuggling.encoding"),
    ("coding_chunked_not_last", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "400 smuggling.encoding"),
    ("coding_xchunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400 smuggling.encoding"),
    ("coding_empty", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n", "400 smuggling.encoding"),
    ("coding_leading_comma", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", "400 smuggling.encoding"),
    ("coding_trailing_comma", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", "400 smuggling.encoding"),
    ("coding_parameter", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", "400 smuggling.encoding"),
    ("coding_quoted", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "400 smuggling.encoding"),
    ("coding_vertical_tab", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "400 field.value_control"),
    ("coding_form_feed", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n", "400 field.value_control"),
    ("coding_nul", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n", "400 field.value_control"),
    ("coding_nbsp", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\xa0\r\n\r\n0\r\n\r\n", "400 smuggling.encoding"),
    ("coding_http10", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 smuggling.encoding_on_1.0"),
    ("coding_http10_keep_alive", b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 smuggling.encoding_on_1.0"),
    ("coding_underscore_name", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n", "POST / 1.1 @a keep"),
    // connection, upgrade, expect
    ("close", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / 1.1 @a close"),
    ("close_case", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: CLOSE\r\n\r\n", "GET / 1.1 @a close"),
    ("close_in_list", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: te , close\r\n\r\n", "GET / 1.1 @a close"),
    ("close_in_second_line", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", "GET / 1.1 @a close"),
    ("close_is_no_prefix", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", "GET / 1.1 @a keep"),
    ("connection_empty", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: , ,\r\n\r\n", "GET / 1.1 @a keep"),
    ("connection_no_token", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep alive\r\n\r\n", "400 connection.syntax"),
    ("connection_names_host", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", "400 connection.end_to_end"),
    ("connection_names_length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close, Content-Length\r\n\r\nx", "400 connection.end_to_end"),
    ("connection_names_forwarded", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-For\r\n\r\n", "400 connection.end_to_end"),
    ("upgrade", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET / 1.1 @a keep upgrade"),
    ("upgrade_firefox", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET / 1.1 @a keep upgrade"),
    ("upgrade_not_in_connection", b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "GET / 1.1 @a keep"),
    ("upgrade_without_field", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n", "GET / 1.1 @a keep"),
    ("upgrade_http10", b"GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET / 1.0 @ close"),
    ("expect", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", "POST / 1.1 @a keep expect length=1 'x'"),
    ("expect_case", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx", "POST / 1.1 @a keep expect length=1 'x'"),
    ("expect_chunked", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST / 1.1 @a keep expect chunked ''"),
    ("expect_without_body", b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", "GET / 1.1 @a keep"),
    ("expect_http10", b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", "POST / 1.0 @ close length=1 'x'"),
    ("expect_other", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\nx", "417 expect.unknown"),
    ("expect_list", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\nContent-Length: 1\r\n\r\nx", "417 expect.unknown"),
    ("expect_empty", b"POST / HTTP/1.1\r\nHost: a\r\nExpect:\r\nContent-Length: 1\r\n\r\nx", "417 expect.unknown"),
];

/// The stream is `POST / HTTP/1.1`, `Host`, `Transfer-Encoding: chunked` and these bytes; the verdict that of the
/// body and what follows.
#[rustfmt::skip] // one line for each case
const CHUNKED: &[Case] = &[
    ("one", b"5\r\nhello\r\n0\r\n\r\n", "'hello'"),
    ("two", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "'hello world'"),
    ("none", b"0\r\n\r\n", "''"),
    ("next_request", b"1\r\na\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "'a'; GET /2 1.1 @a keep"),
    ("upper_case_size", b"A\r\n0123456789\r\n0\r\n\r\n", "'0123456789'"),
    ("lower_case_size", b"a\r\n0123456789\r\n0\r\n\r\n", "'0123456789'"),
    ("size_leading_zeros", b"0005\r\nhello\r\n000\r\n\r\n", "'hello'"),
    ("data_like_framing", b"7\r\n0\r\n\r\nab\r\n0\r\n\r\n", "'0\r\n\r\nab'"),
    ("cut_in_size", b"5", "'' more"),
    ("cut_in_data", b"5\r\nhel", "'hel' more"),
    ("cut_after_data", b"5\r\nhello", "'hello' more"),
    ("no_last_chunk", b"5\r\nhello\r\n", "'hello' more"),
    ("no_final_crlf", b"5\r\nhello\r\n0\r\n", "'hello' more"),
    ("size_empty", b"\r\n\r\n", "'' 400 chunk.size"),
    ("size_sign", b"+5\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.size"),
    ("size_minus", b"-1\r\n\r\n", "'' 400 chunk.size"),
    ("size_hex_prefix", b"0x5\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.size"),
    ("size_hex_suffix", b"5h\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.size"),
    ("size_underscore", b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n", "'' 400 chunk.size"),
    ("size_leading_space", b" 5\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.size"),
    ("size_leading_tab", b"\t5\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.size"),
    ("size_trailing_space", b"5 \r\nhello\r\n0\r\n\r\n", "'' 400 chunk.extension"),
    ("size_point", b"5.0\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.size"),
    ("size_nul", b"5\0\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.size"),
    ("size_words", b"five\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.size"),
    ("size_overflow", b"10000000000000005\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.size_overflow"),
    ("size_overflow_zeros", b"00000000000000005\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.size_overflow"),
    ("size_bare_lf", b"5\nhello\r\n0\r\n\r\n", "'' 400 line.bare_lf"),
    ("size_bare_cr", b"5\rhello\r\n0\r\n\r\n", "'' 400 line.bare_cr"),
    ("data_too_long", b"5\r\nhello!\r\n0\r\n\r\n", "'hello' 400 chunk.data_end"),
    ("data_too_short", b"6\r\nhello\r\n0\r\n\r\n", "'hello\r' 400 chunk.data_end"),
    ("data_end_bare_lf", b"5\r\nhello\n0\r\n\r\n", "'hello' 400 chunk.data_end"),
    ("data_end_bare_cr", b"5\r\nhello\r0\r\n\r\n", "'hello' 400 chunk.data_end"),
    ("data_end_missing", b"5\r\nhello0\r\n\r\n", "'hello' 400 chunk.data_end"),
    ("last_bare_lf", b"0\n\r\n", "'' 400 line.bare_lf"),
    ("end_bare_lf", b"0\r\n\n", "'' 400 line.bare_lf"),
    ("end_bare_cr", b"0\r\n\rx", "'' 400 line.bare_cr"),
    ("extension", b"5;a=b\r\nhello\r\n0;z\r\n\r\n", "'hello'"),
    ("extension_quoted", b"5;a=\"b;\\\"\xe9 c\";d\r\nhello\r\n0\r\n\r\n", "'hello'"),
    ("extension_blanks", b"5 ; a\t= b ;c\r\nhello\r\n0\r\n\r\n", "'hello'"),
    ("extension_quoted_blanks", b"5;a=\"b\" ;c=d\r\nhello\r\n0\r\n\r\n", "'hello'"),
    ("extension_bare_semicolon", b"5;\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.extension"),
    ("extension_two_semicolons", b"5;;a\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.extension"),
    ("extension_no_value", b"5;a=\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.extension"),
    ("extension_no_name", b"5;=b\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.extension"),
    ("extension_trailing_space", b"5;a \r\nhello\r\n0\r\n\r\n", "'' 400 chunk.extension"),
    ("extension_bare_lf", b"5;a\nhello\r\n0\r\n\r\n", "'' 400 line.bare_lf"),
    ("extension_bare_cr", b"5;a\rb\r\nhello\r\n0\r\n\r\n", "'' 400 line.bare_cr"),
    ("extension_nul", b"5;a\0\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.extension"),
    ("extension_quote_open", b"5;a=\"b\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.extension"),
    ("extension_quote_lf", b"5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", "'' 400 line.bare_lf"),
    ("extension_after_quote", b"5;a=\"b\"c\r\nhello\r\n0\r\n\r\n", "'' 400 chunk.extension"),
    ("trailer", b"5\r\nhello\r\n0\r\nX-Checksum: 1\r\nX-Other:\r\n\r\n", "'hello'"),
    ("trailer_then_request", b"0\r\nX: y\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "''; GET /2 1.1 @a keep"),
    ("trailer_cut", b"0\r\nX: y\r\n", "'' more"),
    ("trailer_length", b"0\r\nContent-Length: 5\r\n\r\n", "'' 400 trailer.refused"),
    ("trailer_coding", b"0\r\nTransfer-Encoding: chunked\r\n\r\n", "'' 400 trailer.refused"),
    ("trailer_host", b"0\r\nHost: evil\r\n\r\n", "'' 400 trailer.refused"),
    ("trailer_connection", b"0\r\nConnection: close\r\n\r\n", "'' 400 trailer.refused"),
    ("trailer_authorization", b"0\r\nAuthorization: x\r\n\r\n", "'' 400 trailer.refused"),
    ("trailer_content_type", b"0\r\nContent-Type: text/html\r\n\r\n", "'' 400 trailer.refused"),
    ("trailer_content_encoding", b"0\r\ncontent-encoding: br\r\n\r\n", "'' 400 trailer.refused"),
    ("trailer_forwarded", b"0\r\nX-Forwarded-For: ::1\r\n\r\n", "'' 400 trailer.refused"),
    ("trailer_cookie", b"0\r\nCookie: a=b\r\n\r\n", "'' 400 trailer.refused"),
    ("trailer_underscore", b"0\r\nContent_Length: 5\r\n\r\n", "''"),
    ("trailer_space_before_colon", b"0\r\nX : y\r\n\r\n", "'' 400 trailer.syntax"),
    ("trailer_folded", b"0\r\nX: y\r\n z\r\n\r\n", "'' 400 trailer.syntax"),
    ("trailer_empty_name", b"0\r\n: y\r\n\r\n", "'' 400 trailer.syntax"),
    ("trailer_no_colon", b"0\r\nX\r\n\r\n", "'' 400 trailer.syntax"),
    ("trailer_bare_lf", b"0\r\nX: y\n\r\n", "'' 400 line.bare_lf"),
    ("trailer_bare_cr", b"0\r\nX: y\rz\r\n\r\n", "'' 400 line.bare_cr"),
    ("trailer_value_nul", b"0\r\nX: \0\r\n\r\n", "'' 400 trailer.syntax"),
    ("trailer_next_request", b"0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "'' 400 trailer.syntax"),
];

/// A case as whole stream: name, bytes, verdict.
type Stream = (String, Vec<u8>, String);

/// Every case of both tables.
fn cases() -> Vec<Stream> {
    let heads = HEADS.iter().map(|(name, input, verdict)| (*name, input.to_vec(), (*verdict).to_owned()));
    let chunked = CHUNKED.iter().map(|(name, body, verdict)| {
        let input = [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", *body].concat();
        (*name, input, format!("POST / 1.1 @a keep chunked {verdict}"))
    });
    let mut all: Vec<_> = heads.map(|(n, i, v)| (format!("head {n}"), i, v)).collect();
    all.extend(chunked.map(|(n, i, v)| (format!("chunked {n}"), i, v)));
    all
}

#[test]
fn every_stream_gets_its_verdict() {
    let wrong: Vec<_> = cases()
        .into_iter()
        .filter_map(|(name, input, expected)| {
            let found = verdict(&input);
            (found != expected).then(|| format!("{name}: {found:?}, expected {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn names_of_cases_are_unique() {
    let mut names: Vec<_> = cases().into_iter().map(|case| case.0).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count >= 150, "{count} cases");
}

#[test]
fn the_verdict_is_the_same_byte_by_byte() {
    for (name, input, expected) in cases() {
        assert_eq!(verdict_in_pieces(&input, std::iter::repeat(1)), expected, "{name}");
    }
}

#[test]
fn the_verdict_is_the_same_cut_in_two_anywhere() {
    for (name, input, expected) in cases() {
        for cut in 1..input.len() {
            let found = verdict_in_pieces(&input, [cut, input.len() - cut]);
            assert_eq!(found, expected, "{name}, cut at {cut}");
        }
    }
}

#[test]
fn what_is_accepted_httparse_accepts_with_the_same_fields() {
    let mut accepted = 0;
    for (name, input, expected) in cases() {
        if let Some((ours, bytes)) = head_fields(&input) {
            accepted += 1;
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut fields);
            let status = request.parse(&input).unwrap_or_else(|e| panic!("{name} ({expected}): {e}"));
            assert_eq!(status, httparse::Status::Complete(bytes), "{name}");
            let theirs: Vec<_> =
                request.headers.iter().map(|h| (h.name.as_bytes().to_vec(), h.value.to_vec())).collect();
            assert_eq!(ours, theirs, "{name}");
        }
    }
    assert!(accepted > 80, "{accepted} accepted");
}

/// The cases after which a connection goes on, and those that may follow.
fn followed_and_following() -> (Vec<Stream>, Vec<Stream>) {
    let goes_on = |verdict: &str| {
        !["more", "400", "417", "501", "505", "close"].iter().any(|end| verdict.contains(end))
    };
    let first = cases().into_iter().filter(|case| goes_on(&case.2)).collect();
    (first, cases().into_iter().filter(|case| !case.1.is_empty()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_verdict_is_the_same_cut_at_random(
        case in 0..cases().len(),
        pieces in prop::collection::vec(1usize..12, 1..60),
    ) {
        let (name, input, expected) = &cases()[case];
        let found = verdict_in_pieces(input, pieces.into_iter().chain(std::iter::repeat(7)));
        prop_assert_eq!(&found, expected, "{}", name);
    }

    #[test]
    fn h10_two_cases_in_a_row_are_two_messages(
        first in any::<prop::sample::Index>(),
        second in any::<prop::sample::Index>(),
    ) {
        let (firsts, seconds) = followed_and_following();
        let (first, second) = (first.get(&firsts), second.get(&seconds));
        let stream = [&first.1[..], &second.1].concat();
        let expected = format!("{}; {}", first.2, second.2);
        prop_assert_eq!(verdict(&stream), expected, "{} then {}", &first.0, &second.0);
    }
}
