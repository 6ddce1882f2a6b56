//! Host names of sites.

/// The name as it is compared: lower case. Else what is wrong, and what would be right.
pub(crate) fn parse(text: &str) -> Result<String, (String, String)> {
    let no = |hint: String| Err((format!("`{text}` is not the name of a host"), hint));
    if let Some((_, rest)) = text.split_once("://") {
        return no(format!("write it without the scheme: `{}`", rest.trim_end_matches('/')));
    }
    if text == "*" {
        return no(
            "leave `hosts` out: the site then has all hosts that no other site of the address has".to_owned()
        );
    }
    if text.starts_with('[') {
        let inner = text.trim_start_matches('[').trim_end_matches(']');
        return match inner.parse::<std::net::Ipv6Addr>() {
            Ok(address) => Ok(format!("[{address}]")),
            Err(_) => no("an IPv6 address is written `[::1]`".to_owned()),
        };
    }
    if let Some((host, port)) = text.rsplit_once(':') {
        if port.bytes().all(|b| b.is_ascii_digit()) && !host.contains(':') {
            return no(format!("write it without the port: `{host}`; ports stand in `listen`"));
        }
        return no("an IPv6 address is written `[::1]`".to_owned());
    }
    let (star, name) = match text.strip_prefix("*.") {
        Some(rest) => ("*.", rest),
        None => ("", text),
    };
    if name.contains('*') {
        let hint = "a `*` stands only for whatever is before the first dot: `*.shop.example`";
        return Err((format!("`{text}` has a star in the wrong place"), hint.to_owned()));
    }
    if name.contains('/') {
        return no("write the name alone: paths are the routes' matter".to_owned());
    }
    if let Some(bare) = name.strip_suffix('.') {
        return no(format!("write it without the dot at its end: `{star}{bare}`"));
    }
    let lower = name.to_lowercase();
    if !lower.is_ascii() {
        let labels: Vec<String> = lower
            .split('.')
            .map(|label| if label.is_ascii() { label.to_owned() } else { format!("xn--{}", punycode(label)) })
            .collect();
        return no(format!("browsers ask for it in its ASCII form: `{star}{}`", labels.join(".")));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if lower.len() > 253 || !lower.split('.').all(label) {
        return no("a name is made of letters, digits, `-` and dots: `shop.example`".to_owned());
    }
    Ok(format!("{star}{lower}"))
}

/// RFC 3492, of one label.
fn punycode(label: &str) -> String {
    const BASE: u32 = 36;
    let adapt = |delta: u32, points: u32, first: bool| {
        let mut delta = if first { delta / 700 } else { delta / 2 };
        delta += delta / points;
        let mut k = 0;
        while delta > 455 {
            delta /= BASE - 1;
            k += BASE;
        }
        k + BASE * delta / (delta + 38)
    };
    let letters: Vec<u32> = label.chars().map(u32::from).collect();
    let mut out: String = label.chars().filter(char::is_ascii).collect();
    let basic = out.len() as u32;
    let (mut done, mut n, mut delta, mut bias) = (basic, 128, 0u32, 72);
    if basic > 0 {
        out.push('-');
    }
    while (done as usize) < letters.len() {
        let Some(&next) = letters.iter().filter(|&&c| c >= n).min() else { break };
        delta = delta.saturating_add((next - n).saturating_mul(done + 1));
        n = next;
        for &c in &letters {
            if c < n {
                delta = delta.saturating_add(1);
            }
            if c == n {
                let mut q = delta;
                let mut k = BASE;
                loop {
                    let t = if k <= bias { 1 } else { (k - bias).min(26) };
                    if q < t {
                        break;
                    }
                    let digit = t + (q - t) % (BASE - t);
                    out.push(digit_36(digit));
                    q = (q - t) / (BASE - t);
                    k += BASE;
                }
                out.push(digit_36(q));
                bias = adapt(delta, done + 1, done == basic);
                delta = 0;
                done += 1;
            }
        }
        delta = delta.saturating_add(1);
        n += 1;
    }
    out
}

/// `a` to `z`, then `0` to `9`.
fn digit_36(digit: u32) -> char {
    char::from(if digit < 26 { b'a' + digit as u8 } else { b'0' + (digit - 26) as u8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_in_lower_case() {
        for (text, name) in [
            ("Shop.Example", "shop.example"),
            ("*.shop.example", "*.shop.example"),
            ("localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(name));
        }
    }

    #[test]
    fn what_is_no_name_is_told_with_the_right_one() {
        for (text, hint) in [
            ("https://shop.example/", "write it without the scheme: `shop.example`"),
            ("shop.example:80", "write it without the port: `shop.example`; ports stand in `listen`"),
            ("shop.example.", "write it without the dot at its end: `shop.example`"),
            ("München.de", "browsers ask for it in its ASCII form: `xn--mnchen-3ya.de`"),
            ("*.例え.jp", "browsers ask for it in its ASCII form: `*.xn--r8jz45g.jp`"),
            ("a.*.b", "a `*` stands only for whatever is before the first dot: `*.shop.example`"),
            ("a b", "a name is made of letters, digits, `-` and dots: `shop.example`"),
            ("", "a name is made of letters, digits, `-` and dots: `shop.example`"),
            ("::1", "an IPv6 address is written `[::1]`"),
        ] {
            assert_eq!(parse(text).unwrap_err().1, hint, "{text}");
        }
    }
}
