const posts = await (await fetch("/api/posts")).json();
document.querySelector("main").textContent = posts.map((post) => post.title).join(", ");
