//! Values both ways. Types of the database without a type in Python are text, or bytes if they have no character set.

use mysql::consts::ColumnType;
use mysql::{Column, Row, Value};
use pyo3::exceptions::{PyArithmeticError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};
use pyo3::{ffi, intern};

/// The character set that is none (MySQL's manual, "The binary Collation").
const BINARY: u16 = 63;

/// Classes of the standard library, and our own helpers, found once.
struct Known {
    decimal: Py<PyAny>,
    date: Py<PyAny>,
    datetime: Py<PyAny>,
    time: Py<PyAny>,
    timedelta: Py<PyAny>,
    plain: Py<PyAny>,
    naive: Py<PyAny>,
    row_class: Py<PyAny>,
    wrong: Py<PyAny>,
    unreadable: Py<PyAny>,
}

fn known(py: Python<'_>) -> PyResult<&'static Known> {
    static KNOWN: PyOnceLock<Known> = PyOnceLock::new();
    KNOWN.get_or_try_init(py, || {
        let get = |module: &str, name: &str| py.import(module)?.getattr(name).map(Bound::unbind);
        Ok(Known {
            decimal: get("decimal", "Decimal")?,
            date: get("datetime", "date")?,
            datetime: get("datetime", "datetime")?,
            time: get("datetime", "time")?,
            timedelta: get("datetime", "timedelta")?,
            plain: get("trivet.db.values", "plain")?,
            naive: get("trivet.db.values", "naive")?,
            row_class: get("trivet.db.rows", "row_class")?,
            wrong: get("trivet.db.errors", "ProgrammingError")?,
            unreadable: get("trivet.db.errors", "OperationalError")?,
        })
    })
}

pub(crate) fn wrong(py: Python<'_>, message: &str) -> PyErr {
    known(py).and_then(|known| known.wrong.bind(py).call1((message,))).map_or_else(|e| e, PyErr::from_value)
}

/// The values of a statement. Raises `ProgrammingError` for what has no place in one column.
pub(crate) fn from_python(values: &Bound<'_, PyAny>) -> PyResult<Vec<Value>> {
    let mut out = Vec::with_capacity(values.len()?);
    for value in values.try_iter()? {
        out.push(value_of(&value?, true)?);
    }
    Ok(out)
}

fn value_of(value: &Bound<'_, PyAny>, first: bool) -> PyResult<Value> {
    let py = value.py();
    if value.is_none() {
        return Ok(Value::NULL);
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        let text = text.to_str().map_err(|e| wrong(py, &e.to_string()))?;
        return Ok(Value::Bytes(text.as_bytes().to_vec()));
    }
    if let Ok(number) = value.cast_exact::<PyInt>() {
        return integer(number);
    }
    if let Ok(flag) = value.cast_exact::<PyBool>() {
        return Ok(Value::Int(i64::from(flag.is_true())));
    }
    if let Ok(number) = value.cast_exact::<PyFloat>() {
        let number = number.value();
        if !number.is_finite() {
            return Err(wrong(py, &format!("`{number}` cannot be stored in a database")));
        }
        return Ok(Value::Double(number));
    }
    if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return Ok(Value::Bytes(bytes.as_bytes().to_vec()));
    }
    let known = known(py)?;
    // A datetime is a date too.
    if value.is_instance(known.datetime.bind(py))? {
        let naive = known.naive.bind(py).call1((value,))?;
        let (year, month, day) = date_of(&naive)?;
        let (hour, minute, second, micro) = clock_of(&naive)?;
        return Ok(Value::Date(year, month, day, hour, minute, second, micro));
    }
    if value.is_instance(known.date.bind(py))? {
        let (year, month, day) = date_of(value)?;
        return Ok(Value::Date(year, month, day, 0, 0, 0, 0));
    }
    if value.is_instance(known.time.bind(py))? {
        if !value.getattr(intern!(py, "tzinfo"))?.is_none() {
            return Err(wrong(py, "a time of day with a zone cannot be a parameter"));
        }
        let (hour, minute, second, micro) = clock_of(value)?;
        return Ok(Value::Time(false, 0, hour, minute, second, micro));
    }
    if value.is_instance(known.timedelta.bind(py))? {
        return span(value);
    }
    if value.is_instance(known.decimal.bind(py))? {
        if !value.call_method0(intern!(py, "is_finite"))?.is_truthy()? {
            return Err(wrong(py, &format!("`{value}` cannot be stored in a database")));
        }
        return Ok(Value::Bytes(value.str()?.to_str()?.as_bytes().to_vec()));
    }
    if let Ok(buffer) = value.cast::<pyo3::types::PyByteArray>() {
        return Ok(Value::Bytes(buffer.to_vec()));
    }
    if value.is_instance_of::<pyo3::types::PyMemoryView>() {
        let bytes = value.call_method0(intern!(py, "tobytes"))?;
        return Ok(Value::Bytes(bytes.cast::<PyBytes>()?.as_bytes().to_vec()));
    }
    if !first {
        return Err(wrong(py, "a value of this type cannot be a parameter"));
    }
    value_of(&known.plain.bind(py).call1((value,))?, false)
}

fn integer(number: &Bound<'_, PyInt>) -> PyResult<Value> {
    if let Ok(number) = number.extract::<i64>() {
        return Ok(Value::Int(number));
    }
    if let Ok(number) = number.extract::<u64>() {
        return Ok(Value::UInt(number));
    }
    // DECIMAL has up to 65 digits; the server says if it is too long for the column.
    Ok(Value::Bytes(number.str()?.to_str()?.as_bytes().to_vec()))
}

fn date_of(value: &Bound<'_, PyAny>) -> PyResult<(u16, u8, u8)> {
    let py = value.py();
    Ok((
        value.getattr(intern!(py, "year"))?.extract()?,
        value.getattr(intern!(py, "month"))?.extract()?,
        value.getattr(intern!(py, "day"))?.extract()?,
    ))
}

fn clock_of(value: &Bound<'_, PyAny>) -> PyResult<(u8, u8, u8, u32)> {
    let py = value.py();
    Ok((
        value.getattr(intern!(py, "hour"))?.extract()?,
        value.getattr(intern!(py, "minute"))?.extract()?,
        value.getattr(intern!(py, "second"))?.extract()?,
        value.getattr(intern!(py, "microsecond"))?.extract()?,
    ))
}

fn span(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    let py = value.py();
    let days: i64 = value.getattr(intern!(py, "days"))?.extract()?;
    let seconds: i64 = value.getattr(intern!(py, "seconds"))?.extract()?;
    let micros: i64 = value.getattr(intern!(py, "microseconds"))?.extract()?;
    let all = i128::from(days * 86_400 + seconds) * 1_000_000 + i128::from(micros);
    let (negative, all) = (all < 0, all.unsigned_abs());
    let (seconds, micros) = (all / 1_000_000, all % 1_000_000);
    let days = u32::try_from(seconds / 86_400).map_err(|_| wrong(py, "the timedelta is too long"))?;
    let part = |unit: u128, limit: u128| (seconds / unit % limit) as u8;
    Ok(Value::Time(negative, days, part(3600, 24), part(60, 60), part(1, 60), micros as u32))
}

/// The class of the rows with these columns.
pub(crate) fn class_for<'py>(py: Python<'py>, columns: &[Column]) -> PyResult<Bound<'py, PyType>> {
    let names: Vec<_> = columns.iter().map(Column::name_str).collect();
    let names = PyTuple::new(py, names)?;
    Ok(known(py)?.row_class.bind(py).call1((names,))?.cast_into::<PyType>()?)
}

/// The rows as instances of their class.
pub(crate) fn rows_to_python<'py>(
    class: &Bound<'py, PyType>,
    columns: &[Column],
    rows: Vec<Row>,
) -> PyResult<Bound<'py, PyList>> {
    let py = class.py();
    let known = known(py)?;
    let list = PyList::empty(py);
    for row in rows {
        let cells = row.unwrap_raw();
        let mut values = Vec::with_capacity(cells.len());
        for (cell, column) in cells.into_iter().zip(columns) {
            let value = to_python(py, known, cell.unwrap_or(Value::NULL), column);
            values.push(value.map_err(|e| unreadable(py, known, &e, column))?);
        }
        list.append(instance(class, PyTuple::new(py, values)?)?)?;
    }
    Ok(list)
}

/// What the server sent is not what it says it is: damaged on the way, or another program's.
fn unreadable(py: Python<'_>, known: &Known, error: &PyErr, column: &Column) -> PyErr {
    if !(error.is_instance_of::<PyValueError>(py) || error.is_instance_of::<PyArithmeticError>(py)) {
        return error.clone_ref(py);
    }
    let name = column.name_str();
    let why = error.value(py).str().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let message = format!("the server's value of the column `{name}` cannot be understood: {why}");
    known.unreadable.bind(py).call1((message,)).map_or_else(|e| e, PyErr::from_value)
}

/// `class(values)` for a subclass of tuple, without the way through `type.__call__`: 60 ns of 150 for each row.
fn instance<'py>(class: &Bound<'py, PyType>, values: Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let arguments = PyTuple::new(py, [values])?;
    // SAFETY: `class` is a subclass of tuple, made by `row_class`; tuple's own `tp_new` takes it, a tuple of arguments
    // and no keywords, and gives a new reference or null with an exception set.
    unsafe {
        let slot = ffi::PyType_GetSlot(&raw mut ffi::PyTuple_Type, ffi::Py_tp_new);
        let new: ffi::newfunc = std::mem::transmute(slot);
        Bound::from_owned_ptr_or_err(py, new(class.as_type_ptr(), arguments.as_ptr(), std::ptr::null_mut()))
    }
}

fn to_python<'py>(
    py: Python<'py>,
    known: &Known,
    value: Value,
    column: &Column,
) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::NULL => py.None().into_bound(py),
        Value::Int(number) => number.into_pyobject(py)?.into_any(),
        Value::UInt(number) => number.into_pyobject(py)?.into_any(),
        Value::Double(number) => PyFloat::new(py, number).into_any(),
        // What was stored as 1.1 is read as 1.1: through the shortest text that is this number.
        Value::Float(number) => {
            PyFloat::new(py, number.to_string().parse().unwrap_or(f64::from(number))).into_any()
        }
        Value::Date(year, month, day, hour, minute, second, micro) => {
            moment(py, known, column.column_type(), (year, month, day), (hour, minute, second, micro))?
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            let seconds = i64::from(days) * 86_400
                + i64::from(hours) * 3600
                + i64::from(minutes) * 60
                + i64::from(seconds);
            let sign = if negative { -1 } else { 1 };
            known.timedelta.bind(py).call1((0, sign * seconds, sign * i64::from(micros)))?
        }
        Value::Bytes(bytes) => cell(py, known, bytes, column)?,
    })
}

/// A cell that came as bytes: text and binaries, DECIMAL, and everything in the text protocol.
fn cell<'py>(py: Python<'py>, known: &Known, bytes: Vec<u8>, column: &Column) -> PyResult<Bound<'py, PyAny>> {
    use ColumnType::*;
    let kind = column.column_type();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let bad = || PyValueError::new_err(format!("`{}` is not a {kind:?}", text(&bytes)));
    Ok(match kind {
        MYSQL_TYPE_DECIMAL | MYSQL_TYPE_NEWDECIMAL => known.decimal.bind(py).call1((text(&bytes),))?,
        MYSQL_TYPE_TINY | MYSQL_TYPE_SHORT | MYSQL_TYPE_INT24 | MYSQL_TYPE_LONG | MYSQL_TYPE_LONGLONG
        | MYSQL_TYPE_YEAR => {
            let number: i128 = text(&bytes).parse().map_err(|_| bad())?;
            number.into_pyobject(py)?.into_any()
        }
        MYSQL_TYPE_FLOAT | MYSQL_TYPE_DOUBLE => {
            PyFloat::new(py, text(&bytes).parse().map_err(|_| bad())?).into_any()
        }
        MYSQL_TYPE_DATE
        | MYSQL_TYPE_NEWDATE
        | MYSQL_TYPE_DATETIME
        | MYSQL_TYPE_DATETIME2
        | MYSQL_TYPE_TIMESTAMP
        | MYSQL_TYPE_TIMESTAMP2 => {
            let (date, clock) = split_moment(&text(&bytes)).ok_or_else(bad)?;
            moment(py, known, kind, date, clock)?
        }
        MYSQL_TYPE_TIME | MYSQL_TYPE_TIME2 => {
            let written = text(&bytes);
            let negative = written.starts_with('-');
            let (seconds, micros) = split_clock(written.trim_start_matches('-')).ok_or_else(bad)?;
            let sign = if negative { -1 } else { 1 };
            known.timedelta.bind(py).call1((0, sign * seconds, sign * i64::from(micros)))?
        }
        // MySQL sends JSON without a character set.
        MYSQL_TYPE_JSON => PyString::new(py, &text(&bytes)).into_any(),
        MYSQL_TYPE_BIT | MYSQL_TYPE_GEOMETRY => PyBytes::new(py, &bytes).into_any(),
        _ if column.character_set() == BINARY => PyBytes::new(py, &bytes).into_any(),
        _ => match std::str::from_utf8(&bytes) {
            Ok(valid) => PyString::new(py, valid).into_any(),
            Err(_) => PyString::new(py, &text(&bytes)).into_any(),
        },
    })
}

type Day = (u16, u8, u8);
type Clock = (u8, u8, u8, u32);

/// `YYYY-MM-DD`, with ` HH:MM:SS` and a fraction or without.
fn split_moment(written: &str) -> Option<(Day, Clock)> {
    let (date, clock) = written.split_once(' ').unwrap_or((written, "0:0:0"));
    let mut parts = date.split('-');
    let day = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let (seconds, micros) = split_clock(clock)?;
    let part = |unit: i64, limit: i64| (seconds / unit % limit) as u8;
    Some((day, (part(3600, 24), part(60, 60), part(1, 60), micros)))
}

/// `HH:MM:SS` with a fraction or without, hours without a limit: seconds and microseconds.
fn split_clock(written: &str) -> Option<(i64, u32)> {
    let (clock, fraction) = written.split_once('.').unwrap_or((written, ""));
    let mut parts = clock.split(':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let seconds: i64 = parts.next()?.parse().ok()?;
    let micros = if fraction.is_empty() { 0 } else { format!("{fraction:0<6}").get(..6)?.parse().ok()? };
    Some((hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds)?, micros))
}

/// A date or a moment. `0000-00-00` is None; `2026-00-00`, which MySQL may store too, is text.
fn moment<'py>(
    py: Python<'py>,
    known: &Known,
    kind: ColumnType,
    (year, month, day): Day,
    (hour, minute, second, micro): Clock,
) -> PyResult<Bound<'py, PyAny>> {
    if (year, month, day) == (0, 0, 0) {
        return Ok(py.None().into_bound(py));
    }
    let only_day = matches!(kind, ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE);
    let made = if only_day {
        known.date.bind(py).call1((year, month, day))
    } else {
        known.datetime.bind(py).call1((year, month, day, hour, minute, second, micro))
    };
    match made {
        Ok(made) => Ok(made),
        Err(e) if e.is_instance_of::<PyValueError>(py) => {
            let clock = if only_day { String::new() } else { format!(" {hour:02}:{minute:02}:{second:02}") };
            Ok(PyString::new(py, &format!("{year:04}-{month:02}-{day:02}{clock}")).into_any())
        }
        Err(e) => Err(e),
    }
}
