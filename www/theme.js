// Sets the theme chosen on an earlier visit, before anything is painted. settings.js stores it under this key.
try {
  const { theme } = JSON.parse(localStorage.getItem('face96') ?? '{}');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // If the browser stores nothing, or something else under this key, the system's theme applies.
}
