//! What a web framework decides, without Python, I/O or a clock: routes, interceptors, forms, cookies, signatures.

pub mod cookie;
pub mod intercept;
pub mod json;
pub mod multipart;
pub mod query;
pub mod quote;
pub mod router;
pub mod segments;
pub mod sign;
